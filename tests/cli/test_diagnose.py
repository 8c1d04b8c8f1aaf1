"""``gamma-nlp diagnose``: what it prints and how it exits."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gamma_nlp.cli import main
from tests.support.checkpoints import run_of_bert

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_of_bert(tmp_path / "run", {1: 1.0, 2: 0.5})


def diagnose(*words: object) -> int:
    return main.main(["diagnose", *map(str, words)])


def test_a_run_is_told_by_category_and_layer(run: Path, capsys: Capture) -> None:
    assert diagnose(run) == 0
    text = capsys.readouterr().out
    assert "BertForSequenceClassification: 5 gains in 2 checkpoints, step 1 to step 2" in text
    row = next(line for line in text.splitlines() if line.startswith("shortcut "))
    assert row.split() == ["shortcut", "4", "64", "1", "0.5", "-50.0", "%", "0.5", "0", "%"]
    assert "outliers: none" in text


def test_json_csv_and_a_picture_hold_the_same(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert diagnose(run, "--json", "-o", tmp_path / "gains.svg") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["categories"]["shortcut"]["growth"] == -0.5
    assert "BertForSequenceClassification" in (tmp_path / "gains.svg").read_text()
    assert diagnose(run / "checkpoint-2", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["rms"] for row in rows} == {"0.5"}


def test_what_counts_as_near_0_can_be_set(run: Path, capsys: Capture) -> None:
    assert diagnose(run, "--near-zero", "0.6", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["near_zero"] for one in data["categories"]["head"]["checkpoints"]] == [0, 1]


def test_a_gain_that_is_not_finite_exits_with_1(run: Path, capsys: Capture) -> None:
    path = run / "checkpoint-2" / "model.safetensors"
    content = load_file(path)
    name = "bert.embeddings.LayerNorm.weight"
    content[name] = torch.full_like(content[name], math.nan)
    save_file(content, path, {"format": "pt"})
    assert diagnose(run) == 1
    assert f"{name}: 16 of 16 values at step 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "required: CHECKPOINT"),
        (("{0}", "--near-zero", "0"), "--near-zero must be a number above 0, not 0"),
        (("{0}", "--near-zero", "nan"), "--near-zero must be a number above 0, not nan"),
        (("",), "CHECKPOINT is empty; give a checkpoint's folder"),
        (("{0}", "--config", ""), "--config is empty; give a config.json"),
        (("{0}/..",), "checkpoints are in '{0}/../run': give {0}/../run"),
        (("{0}", "-o", "{0}/checkpoint-1/config.json/x.png"), "config.json is no folder"),
        (("{0}", "-o", "x.pdf"), "give a name that ends in .png or .svg"),
        (("{0}", "--config", "none.json"), "cannot read none.json"),
        (("{0}", "--json", "--csv"), "not allowed with argument --json"),
        (("{0}/none",), "none': {0} holds 'checkpoint-1', 'checkpoint-2'"),
        (("none/at/all",), "no checkpoint 'none/at/all'"),
        (("{0}", "{0}"), "is given twice"),
    ],
)
def test_wrong_use_is_one_line(
    run: Path, words: tuple[str, ...], text: str, capsys: Capture
) -> None:
    assert diagnose(*(word.format(run) for word in words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ") and text.format(run) in line


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("name", ["gains.png", "gains.svg"])
def test_a_picture_of_ones_own_is_replaced_and_no_other(
    run: Path, tmp_path: Path, name: str, capsys: Capture
) -> None:
    path = tmp_path / name
    path.write_text("mine", encoding="utf-8")
    assert diagnose(run, "-o", path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} is there and was not written by gamma-nlp diagnose")
    assert path.read_text(encoding="utf-8") == "mine"
    path.unlink()
    for _ in range(2):
        assert diagnose(run, "-o", path) == 0
        assert capsys.readouterr().out.endswith(f"\nwritten: {path}\n")


def test_a_config_of_another_model_is_not_asked_for_again(run: Path, capsys: Capture) -> None:
    other = run.parent / "other.json"
    llama = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    other.write_text(json.dumps(llama | {"num_hidden_layers": 1}), encoding="utf-8")
    assert diagnose(run, "--config", other) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("give --config FILE, its own model's config.json")
