"""``gamma-nlp probe``: what it prints and how it exits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import Category, GainTable
from gamma_nlp.cli import main
from gamma_nlp.gains import placement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gamma_nlp.check.sweep import small_models

    path = tmp_path_factory.mktemp("model")
    small_models.build("gpt2", "GPT2LMHeadModel").save_pretrained(path)
    return path


def probe(*words: Any) -> int:
    return main.main(["probe", *map(str, words)])


def test_sound_model_agrees_and_exits_with_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "agrees"
    assert len(report["findings"]) == 7


def test_full_report_has_a_row_for_every_gain(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(folder, "--full") == 0
    assert capsys.readouterr().out.count(".weight ") == 7


def test_contradiction_exits_with_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = placement.categorize

    def wrong(*args: Any, **kwargs: Any) -> GainTable:
        gains = right(*args, **kwargs)
        return GainTable(gains=tuple(dataclasses.replace(g, category=Category.HEAD) for g in gains))

    monkeypatch.setattr(placement, "categorize", wrong)
    assert probe(folder) == 1
    assert "contradicts" in capsys.readouterr().out


def test_weights_that_are_missing_can_be_random(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text((folder / "config.json").read_text())
    assert probe(tmp_path) == 2
    assert "--random-weights" in capsys.readouterr().err
    assert probe(config, "--random-weights") == 0


def test_text_without_a_tokenizer_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(folder, "--text", "one two three") == 2
    assert "no tokenizer" in capsys.readouterr().err
    alone = folder / "config.json"  # from which transformers makes a tokenizer without a word
    assert probe(alone, "--random-weights", "--text", "one two three") == 2
    assert "no tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, "no such file"),
        ("text", "holds a str, not a dict"),
        ({"inputids": torch.arange(1, 9)[None]}, "with --inputs"),
    ],
)
def test_batch_that_does_not_fit_names_the_file(
    folder: Path, tmp_path: Path, batch: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "batch.pt"
    if batch is not None:
        torch.save(batch, file)
    assert probe(folder, "--inputs", file) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(file) in error
