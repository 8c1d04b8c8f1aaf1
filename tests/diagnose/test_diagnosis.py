"""Whole diagnoses: of runs, of models of every sort, and of checkpoints that do not fit."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from gamma_nlp import categorize
from gamma_nlp.diagnose.diagnosis import Diagnosis, diagnose
from gamma_nlp.diagnose.report import report
from gamma_nlp.errors import GammaError
from gamma_nlp.hf import models
from tests.support.checkpoints import large_llama, run_of_bert
from tests.support.families import FAMILIES
from tests.support.tiny_models import tiny_bert, tiny_gpt2

GAIN = "bert.encoder.layer.1.output.LayerNorm.weight"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_bert(tmp_path_factory.mktemp("runs") / "run", {10: 1.0, 20: 0.5, 100: 0.5})


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def refused(*sources: Path, **options: Any) -> str:
    with pytest.raises(GammaError) as stop:
        diagnose(sources, **options)
    assert "\n" not in str(stop.value)
    return str(stop.value)


def edit(folder: Path, **tensors: torch.Tensor | None) -> None:
    content = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        content.pop(name, None)
        if tensor is not None:
            content[name] = tensor
    save_file(content, folder / "model.safetensors", {"format": "pt"})


def test_gains_are_measured_over_the_checkpoints_of_a_run(run: Path) -> None:
    found = diagnose([run])
    assert found.model == "BertForSequenceClassification"
    assert [state.step for state in found.states] == [10, 20, 100]
    assert {name: len(gains) for name, gains in found.categories.items()} == {
        "shortcut": 4,
        "head": 1,
    }
    for gains in found.categories.values():
        assert [one.rms for one in found.over(gains)] == [1.0, 0.5, 0.25]
        assert found.growth(gains) == -0.75
    assert not found.broken and not found.outliers


@pytest.mark.parametrize("name", ["gemma2", "t5", "opt", "olmo2", "qwen3"])
def test_gains_of_every_sort_of_model_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    model: Any = FAMILIES[name].build()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(0.1 * i)
    model.save_pretrained(tmp_path)
    found, own = diagnose([tmp_path]), dict(model.named_parameters())
    assert [(g.name, g.category) for g in found.gains] == [
        (g.name, g.category) for g in categorize(model)
    ]
    for gain in found.gains:
        rms = (own[gain.name].double() + gain.offset).square().mean().sqrt().item()
        assert found.states[0].measures[gain.name].rms == pytest.approx(rms)


def test_an_offset_of_1_counts(tmp_path: Path) -> None:
    FAMILIES["gemma2"].build().save_pretrained(tmp_path)  # type: ignore[operator]
    found = diagnose([tmp_path])
    assert {gain.offset for gain in found.gains} == {1.0}
    assert {one.rms for one in found.states[0].measures.values()} == {1.0}


def test_70_billion_parameters_take_seconds_and_hardly_any_memory(tmp_path: Path) -> None:
    folder = large_llama(tmp_path / "llama", gain=0.5)
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size > 128e9
    assert sum(512 * file.stat().st_blocks for file in folder.iterdir()) < 20e6
    start = time.perf_counter()
    found = diagnose([folder])
    assert time.perf_counter() - start < 30
    assert len(found.gains) == 161
    assert {one.rms for one in found.states[0].measures.values()} == {0.5}


def test_the_table_of_a_run_is_used_and_no_model_is_built(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "gain_table.json").write_text(categorize(tiny_bert()).to_json())
    monkeypatch.setattr("gamma_nlp.diagnose.placement.load_model", None)
    found = diagnose([copy])
    assert found.placed_by == copy / "gain_table.json"
    assert found.over(found.gains)[-1].rms == 0.25


def test_a_table_places_a_model_that_transformers_does_not_know(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    table = categorize(model, torch.randn(2, 4))
    torch.save({"state_dict": {f"net.{k}": v for k, v in model.state_dict().items()}},
               tmp_path / "own.ckpt")  # fmt: skip
    text = refused(tmp_path / "own.ckpt")
    assert "neither config.json nor gain_table.json beside it" in text and "--config FILE" in text
    (tmp_path / "mine.json").write_text(table.to_json())
    found = diagnose([tmp_path / "own.ckpt"], config=tmp_path / "mine.json")
    assert [gain.name for gain in found.gains] == ["1.weight"]
    assert found.states[0].label == "own.ckpt"


def test_the_table_of_another_model_gives_way_to_the_config(copy: Path) -> None:
    (copy / "gain_table.json").write_text(categorize(tiny_gpt2()).to_json())
    assert diagnose([copy]).placed_by == copy / "checkpoint-10" / "config.json"
    (copy / "checkpoint-10" / "config.json").unlink()
    assert "gains of " + str(copy / "gain_table.json") in refused(copy / "checkpoint-10")


@pytest.mark.parametrize("content", ["{}", '{"gains": [{}]}', '{"gains": 3, "model": "x"}', "[]"])
def test_a_damaged_table_is_named(content: str, copy: Path) -> None:
    path = copy / "table.json"
    path.write_text(content)
    assert str(path) in refused(copy, config=path)


def test_a_base_model_is_read_as_the_run_that_began_with_it(copy: Path) -> None:
    config = copy / "checkpoint-10" / "config.json"
    tiny_bert().bert.save_pretrained(copy / "base")  # type: ignore[operator]
    text = refused(copy / "base", copy)
    assert f"{copy / 'base'} (BertModel) and {copy / 'checkpoint-10'} (BertForSeq" in text
    assert f"--config {config}" in text
    assert len(diagnose([copy / "base", copy], config=config.parent).gains) == 5
    found = diagnose([copy / "base", copy], config=config)
    assert [state.label for state in found.states] == ["base", "step 10", "step 20", "step 100"]


def test_a_base_model_lacks_the_gains_of_the_head_and_that_is_said(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    model: Any = BertForMaskedLM(BertConfig(intermediate_size=8, vocab_size=16, **sizes))
    model.base_model.save_pretrained(tmp_path)
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(tmp_path)
    told: list[str] = []
    found = diagnose([tmp_path], note=told.append)
    missing = {g.name for g in categorize(model)} - {g.name for g in found.gains}
    assert len(told) == len(missing) == 1
    assert "is a base model without 'cls.predictions.transform.LayerNorm.weight'" in told[0]


def test_checkpoints_of_different_models_are_refused(copy: Path, tmp_path: Path) -> None:
    tiny_gpt2().save_pretrained(tmp_path / "gpt2")  # type: ignore[operator]
    text = refused(copy / "checkpoint-10", tmp_path / "gpt2")
    assert "(BertForSequenceClassification) and" in text and "(GPT2LMHeadModel)" in text
    tiny_bert(3).save_pretrained(tmp_path / "deeper")  # type: ignore[operator]
    text = refused(copy / "checkpoint-10", tmp_path / "deeper")
    assert f"{tmp_path / 'deeper'} alone has 'bert.encoder.layer.2." in text


def test_the_same_names_at_other_places_are_another_model(tmp_path: Path) -> None:
    model: Any = FAMILIES["opt"].build()
    model.save_pretrained(tmp_path / "a")
    model.config.do_layer_norm_before = not model.config.do_layer_norm_before
    model.save_pretrained(tmp_path / "b")
    assert "are of different models" in refused(tmp_path / "a", tmp_path / "b")


def test_a_gain_that_is_missing_or_of_another_size_is_named(copy: Path) -> None:
    edit(copy / "checkpoint-20", **{GAIN: torch.ones(3)})
    assert f"'{GAIN}' has 3 values and should have 16" in refused(copy)
    edit(copy / "checkpoint-20", **{GAIN: None})
    assert f"checkpoint-20 lacks '{GAIN}' (1 of the 5 gains of" in refused(copy)


def test_a_value_that_is_not_finite_is_named(copy: Path) -> None:
    edit(copy / "checkpoint-20", **{GAIN: torch.tensor([math.nan, math.inf, *[1.0] * 14])})
    found = diagnose([copy])
    assert [(s.step, g.name) for s, g in found.broken] == [(20, GAIN)]
    text = report(found)
    assert f"NOT FINITE (nan or inf)\n  {GAIN}: 2 of 16 values at step 20" in text
    assert f"{GAIN} *" in text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_of_a_checkpoint_does_not_matter(copy: Path, dtype: torch.dtype) -> None:
    path = copy / "checkpoint-100" / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(path).items()}, path, {"format": "pt"})
    assert diagnose([copy]).over(diagnose([copy]).gains)[-1].rms == 0.25


def test_a_model_that_cannot_be_built_is_named(copy: Path) -> None:
    config = copy / "checkpoint-10" / "config.json"
    config.write_text(json.dumps({"model_type": "brt"}))
    assert "knows no model type 'brt'" in refused(copy)
    config.unlink()
    assert "neither config.json nor gain_table.json" in refused(copy)
    assert "cannot read" in refused(copy, config=copy / "none.json")


def test_a_model_that_meta_tensors_do_not_place_is_built_if_it_is_small(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(model: nn.Module) -> Any:
        if next(model.parameters()).is_meta:
            raise GammaError("looks at values")
        return categorize(model)

    monkeypatch.setattr("gamma_nlp.diagnose.placement.categorize", place)
    assert len(diagnose([copy]).gains) == 5
    monkeypatch.setattr("gamma_nlp.diagnose.placement.MOST_BUILT", 10)
    text = refused(copy)
    assert "(looks at values)" in text and "add --config FILE" in text


def test_the_same_checkpoints_give_the_same_diagnosis(run: Path) -> None:
    def once() -> Diagnosis:
        return diagnose([run])

    assert report(once()) == report(once())
    assert models.load_model(run / "checkpoint-10") is not None
