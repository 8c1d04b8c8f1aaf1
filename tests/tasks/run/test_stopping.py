"""A signal in training ends a run after its step, with a checkpoint, and nothing is different."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.files.manifest import is_planned
from gamma_nlp.tasks.glue.__main__ import main as recipe
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer
from gamma_nlp.tasks.run.checkpoints import checkpoints
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.translation.average import last_checkpoints
from tests.support.glue_runs import experiment

FIXED = {"dose": None, "weight_decay": 0.1, "logging_steps": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=40, dev=12).parent


def main(argv: Any) -> None:
    finetune(*read_arguments(list(argv)), quiet=True)


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Send a signal to this process within a step."""

    def prepare(step: int, which: int) -> None:
        train = FinetuneTrainer.training_step

        def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == step - 1:
                os.kill(os.getpid(), which)
            return train(self, *args, **kwargs)

        monkeypatch.setattr(FinetuneTrainer, "training_step", interrupted)

    return prepare


@pytest.mark.parametrize(("which", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_saves_and_goes_on_as_if_it_had_not(
    which: int,
    code: int,
    data: Path,
    tmp_path: Path,
    signal_at: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "whole").mkdir()
    assert run(main, experiment(tmp_path / "whole", data, **FIXED)) == 0
    argv = experiment(tmp_path, data, **FIXED)
    with monkeypatch.context():
        signal_at(7, which)
        assert run(main, argv) == code
    monkeypatch.undo()
    lines = capsys.readouterr().err.splitlines()
    assert "stopping after this step (again: at once)" in lines
    assert lines[-1].endswith(
        "at step 7; the same command with --resume continues from checkpoint-7"
    )
    saved = checkpoints(tmp_path / "run")
    assert [(path.name, is_planned(path)) for path in saved] == [
        ("checkpoint-5", True), ("checkpoint-7", False),
    ]  # fmt: skip
    assert last_checkpoints(tmp_path / "run", 1) == [tmp_path / "run" / "checkpoint-5"]
    assert run(main, [*argv, "--resume"]) == 0
    assert [path.name for path in checkpoints(tmp_path / "run")] == [
        "checkpoint-5",
        "checkpoint-10",
    ]
    one, other = (
        json.loads((folder / "run" / "results.json").read_text())
        for folder in (tmp_path / "whole", tmp_path)
    )
    for key in ("final", "history", "gain_norm", "dose"):
        assert one[key] == other[key]
    assert one["curves"]["loss"] == other["curves"]["loss"]
    weights = [
        (folder / "run" / "checkpoint-10" / "model.safetensors").read_bytes()
        for folder in (tmp_path / "whole", tmp_path)
    ]
    assert weights[0] == weights[1]


def test_a_signal_at_a_step_that_saves_anyway_makes_no_other_checkpoint(
    data: Path, tmp_path: Path, signal_at: Any
) -> None:
    argv = experiment(tmp_path, data, **FIXED, save_strategy="steps", save_steps=2)
    signal_at(2, signal.SIGTERM)
    assert run(main, argv) == 143
    assert [(path.name, is_planned(path)) for path in checkpoints(tmp_path / "run")] == [
        ("checkpoint-2", True)
    ]


def test_a_run_that_saves_nothing_saves_nothing_then(
    data: Path, tmp_path: Path, signal_at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data, **FIXED, save_strategy="no")
    signal_at(3, signal.SIGTERM)
    assert run(main, argv) == 143
    assert not checkpoints(tmp_path / "run")
    assert "at step 3, before the first checkpoint" in capsys.readouterr().err


def test_a_run_stopped_after_its_last_step_says_that_none_was_left(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data, **FIXED)
    assert run(recipe, argv) == 0
    (tmp_path / "run" / "results.json").unlink()
    capsys.readouterr()
    assert run(recipe, [*argv, "--resume"]) == 0
    assert "no step was left to train" in capsys.readouterr().out


def test_an_epochs_evaluation_is_in_the_checkpoint_of_its_last_step(
    data: Path, tmp_path: Path
) -> None:
    """A run that is killed between the two would not make the evaluation up."""
    changes = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 2, **FIXED}
    main(experiment(tmp_path, data, **changes))
    saved = checkpoints(tmp_path / "run")
    state = json.loads((saved[-1] / "trainer_state.json").read_text())
    assert state["global_step"] == state["max_steps"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    steps = [entry["step"] for entry in state["log_history"] if "eval_loss" in entry]
    assert steps == [state["max_steps"] // 2, state["max_steps"]]
    assert [entry["step"] for entry in results["history"]] == steps
