"""Tables of positions that are not Marian's own stay with the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Seq2SeqTrainingArguments

from gamma_nlp import GammaSeq2SeqTrainer
from gamma_nlp.hf.models import keep_positions
from gamma_nlp.tasks.translation.checkpoints import load_saved
from tests.support.tiny_marian import tiny_marian

TABLE = "model.encoder.embed_positions.weight"


def with_foreign_table() -> nn.Module:
    model = tiny_marian()
    with torch.no_grad():
        model.model.encoder.embed_positions.weight.add_(1)
    return model


def test_only_a_foreign_table_is_saved(tmp_path: Path) -> None:
    model = with_foreign_table()
    keep_positions(model)
    model.save_pretrained(tmp_path)
    assert {name for name in load_file(tmp_path / "model.safetensors") if "positions" in name} == {
        TABLE
    }
    own = tiny_marian()
    before = own._keys_to_ignore_on_save
    keep_positions(own)
    assert own._keys_to_ignore_on_save == before


def test_half_precision_does_not_make_a_table_foreign() -> None:
    own = tiny_marian().to(torch.bfloat16)
    keep_positions(own)
    assert TABLE in own._keys_to_ignore_on_save


def test_a_table_survives_loading_saving_and_a_trainers_checkpoint(tmp_path: Path) -> None:
    model = with_foreign_table()
    expected = model.state_dict()[TABLE]
    keep_positions(model)
    model.save_pretrained(tmp_path / "first")
    load_saved(tmp_path / "first").save_pretrained(tmp_path / "second")
    loaded = load_saved(tmp_path / "second")
    loaded._keys_to_ignore_on_save = {TABLE}  # as from_pretrained gives it
    args = Seq2SeqTrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    GammaSeq2SeqTrainer(model=loaded, args=args, decay_policy="none").save_model(tmp_path / "third")
    assert load_saved(tmp_path / "third").state_dict()[TABLE].equal(expected)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Identity()])
def test_other_models_are_left_alone(model: nn.Module) -> None:
    keep_positions(model)
    assert not hasattr(model, "_keys_to_ignore_on_save")


def test_nothing_random_is_drawn_in_the_middle_of_a_run() -> None:
    model = with_foreign_table()
    before = torch.get_rng_state()
    keep_positions(model)
    assert torch.get_rng_state().equal(before)
