"""Recipes train alike with recorded steps: loss, scores, weights, and what is left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp.tasks.glue.arguments import read_arguments as read_glue
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer
from gamma_nlp.tasks.run.counts import RunCounts
from gamma_nlp.tasks.translation.trainer import TranslationTrainer
from tests.support import glue_runs, translation_runs
from tests.support.tape import Tape


def close(one: Path, other: Path) -> None:
    first, second = translation_runs.weights(one), translation_runs.weights(other)
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_translation_recipe_with_recorded_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = translation_runs.prepared_corpus(tmp_path / "corpus")
    usual = translation_runs.train(translation_runs.experiment(tmp_path / "usual", data))
    tape = Tape()
    monkeypatch.setattr(TranslationTrainer, "capture", tape)
    argv = translation_runs.experiment(tmp_path / "recorded", data)
    recorded = translation_runs.train_translation(*translation_runs.read_arguments(argv))
    assert "graphs: each step is recorded once per shape" in capsys.readouterr().out
    assert tape.recorded > 3 and tape.replayed > 0
    for key in ("tokens", "steps", "sentences"):
        assert usual.get(key) == recorded.get(key)
    for one, other in zip(usual["history"], recorded["history"], strict=True):
        assert one["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-4)
    close(tmp_path / "recorded/run/averaged", tmp_path / "usual/run/averaged")


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_a_step_that_is_no_number_is_left_out_of_a_recorded_run(
    graphs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_sst2(tmp_path / "glue" / "SST-2", train=40, dev=12).parent
    clean = RunCounts.training_step

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = clean(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step + 1 == 7 else loss

    monkeypatch.setattr(RunCounts, "training_step", spoilt)
    tape = Tape()
    monkeypatch.setattr(FinetuneTrainer, "capture", tape)
    argv = glue_runs.experiment(
        tmp_path, data, on_nan="skip", num_train_epochs=3, padding="max_length"
    )
    found = finetune(*read_glue([*argv, "--graphs", graphs]), quiet=True)
    assert found["skipped_steps"] == [7]
    # 15 steps of one shape, three parts each, of which one was left out; each part once as usual.
    assert tape.replayed == (3 * 14 - 1 if graphs == "auto" else 0)
