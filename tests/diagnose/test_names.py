"""Parameters are found under every name that a checkpoint may give them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForMaskedLM, MixtralConfig, MixtralForCausalLM

from gamma_nlp.diagnose.names import by_model, by_name
from tests.support.tiny_models import tiny_bert

GAIN = "bert.encoder.layer.0.output.LayerNorm.weight"


def wanted(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters() if "LayerNorm.weight" in name]


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module.student.", "base_model.model."]
)
def test_what_stands_before_all_names_is_seen_through(prefix: str) -> None:
    model = tiny_bert()
    stored = [prefix + name for name in model.state_dict()]
    for found in (by_name(wanted(model), stored), by_model(model, wanted(model), stored)):
        assert len(found) == 5
        assert found[GAIN] == (prefix + GAIN,)


def test_a_base_model_lacks_the_name_of_its_place() -> None:
    model = tiny_bert()
    stored = list(model.bert.state_dict())
    for found in (by_name(wanted(model), stored), by_model(model, wanted(model), stored)):
        assert found[GAIN] == (GAIN.removeprefix("bert."),)
        assert len(found) == 5


def test_holders_at_any_depth_are_seen_through() -> None:
    model = tiny_bert()
    stored = [n.replace(".output.", "._checkpoint_wrapped_module.output.") for n in wanted(model)]
    assert len(by_name(wanted(model), stored)) == len(by_model(model, wanted(model), stored)) == 5


def test_names_from_before_pytorch_are_those_of_transformers() -> None:
    model = tiny_bert()
    stored = [name.replace("LayerNorm.weight", "LayerNorm.gamma") for name in model.state_dict()]
    found = by_model(model, wanted(model), stored)
    assert found[GAIN] == (GAIN.replace("weight", "gamma"),)


def test_a_model_beside_another_in_one_file_is_not_mixed_with_it() -> None:
    model = tiny_bert()
    stored = [f"{who}.{name}" for who in ("student", "teacher") for name in model.state_dict()]
    stored.remove(f"student.{GAIN}")
    found = by_name(wanted(model), stored)
    assert len(found) == 5 and all(one.startswith("teacher.") for (one,) in found.values())


def test_a_shared_layer_has_one_name(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 16}
    model = AlbertForMaskedLM(AlbertConfig(num_hidden_layers=3, embedding_size=8, **sizes))
    names = [n for n, p in model.named_parameters() if "ayer" in n and "orm.weight" in n]
    found = by_model(model, names, list(model.state_dict()))
    assert found == {name: (name,) for name in names}


def test_parameters_that_are_stored_in_parts_do_not_disturb(tmp_path: Path) -> None:
    config = MixtralConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=16, num_local_experts=2,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    names = [n for n, _ in model.named_parameters() if "norm.weight" in n]
    stored = [n for n in model.state_dict() if "experts" not in n]
    stored += [f"model.layers.0.block_sparse_moe.experts.{i}.w1.weight" for i in range(2)]
    assert by_model(model, names, stored) == {name: (name,) for name in names}


def test_what_is_not_stored_is_not_found() -> None:
    model = tiny_bert()
    assert by_name(["a.weight"], ["b.weight"]) == {} == by_name(["a.weight"], [])
    stored = [name for name in model.state_dict() if name != GAIN]
    assert GAIN not in by_model(model, wanted(model), stored)
    assert GAIN not in by_name(wanted(model), stored)
    assert torch.is_tensor(model.state_dict()[GAIN])
