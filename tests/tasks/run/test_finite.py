"""A step whose loss or gradient is not finite ends the run, is left out, or is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer
from gamma_nlp.tasks.run.counts import RunCounts
from tests.support.glue_runs import experiment

FIXED = {"dose": None, "weight_decay": 0.1, "eval_strategy": "no", "logging_steps": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=40, dev=12).parent


def train(argv: list[str]) -> dict[str, Any]:
    return finetune(*read_arguments(argv), quiet=True)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the loss, or the gradient of a gain, no number at some steps."""

    def prepare(what: str, steps: set[int], value: float = math.nan) -> None:
        clean = RunCounts.training_step  # FiniteRun is above it

        def spoilt(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = clean(self, *args, **kwargs)
            if self.state.global_step + 1 not in steps:
                return loss
            if what == "loss":
                return loss * value
            gain = self.model.get_parameter("bert.encoder.layer.0.output.LayerNorm.weight")
            gain.grad[3] = value
            return loss

        monkeypatch.setattr(RunCounts, "training_step", spoilt)

    return prepare


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_no_number_ends_the_run_and_is_named(
    clip: float, value: float, data: Path, tmp_path: Path, spoil: Any
) -> None:
    spoil("gradient", {8}, value)
    argv = experiment(tmp_path, data, **FIXED, max_grad_norm=clip)
    with pytest.raises(GammaError, match="the gradient is not finite") as caught:
        train(argv)
    assert "(of parameter 'bert.encoder.layer.0.output.LayerNorm.weight' first)" in str(
        caught.value
    )
    assert "at step 8 of 10" in str(caught.value)
    assert str(caught.value).endswith("the last good checkpoint, checkpoint-5, is kept")
    assert (tmp_path / "run" / "checkpoint-5").is_dir()
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_may_be_left_out(what: str, data: Path, tmp_path: Path, spoil: Any) -> None:
    spoil(what, {2, 3, 8})
    found = train(experiment(tmp_path, data, **FIXED, on_nan="skip"))
    assert found["skipped_steps"] == [2, 3, 8] and found["steps"] == 10
    rates = {
        entry["step"]: entry["learning_rate"] for entry in found["log"] if "learning_rate" in entry
    }
    taken = sum(rate for step, rate in rates.items() if step not in (2, 3, 8))
    assert found["sum_of_learning_rates"] == pytest.approx(taken, rel=1e-5)
    (dose,) = {one["dose"] for one in found["dose"].values() if one["dose"]}
    assert dose == pytest.approx(-math.expm1(-0.1 * taken), abs=1e-6)
    assert all(math.isfinite(value) for _, value in found["curves"]["loss"])


def test_a_step_left_out_moves_nothing(data: Path, tmp_path: Path, spoil: Any) -> None:
    spoil("loss", {6, 7, 8, 9, 10})
    found = train(experiment(tmp_path, data, **FIXED, on_nan="skip"))
    before, after = (
        (tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors").read_bytes()
        for step in (5, 10)
    )
    assert before == after and found["skipped_steps"] == [6, 7, 8, 9, 10]


def test_left_out_steps_are_remembered_over_a_resume(
    data: Path, tmp_path: Path, spoil: Any
) -> None:
    spoil("loss", {3})
    argv = experiment(tmp_path, data, **FIXED, on_nan="skip", num_train_epochs=1)
    train(argv)
    found = train([*argv, "--resume", "--num_train_epochs", "2"])
    assert found["skipped_steps"] == [3]


def test_one_step_after_another_ends_the_run(data: Path, tmp_path: Path, spoil: Any) -> None:
    spoil("gradient", set(range(3, 60)))
    argv = experiment(tmp_path, data, **FIXED, on_nan="skip", num_train_epochs=6)
    with pytest.raises(GammaError, match=r", as in the 20 steps before at step 23 of 30"):
        train(argv)


def test_a_warning_lets_the_step_pass_but_no_score_is_made_of_it(
    data: Path, tmp_path: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoil("gradient", {4})
    with pytest.raises(GammaError, match=r"\(nor is parameter .*\) at step 5 of 10"):
        train(experiment(tmp_path, data, **FIXED, on_nan="warn"))
    assert "the gradient is not finite (of parameter 'bert." in caplog.text
    assert "at step 4" in caplog.text


def test_clipping_is_that_of_torch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = experiment(tmp_path, data, **FIXED, max_grad_norm=0.01)
    ours = train(argv)

    def theirs(self: Any, model: Any) -> torch.Tensor:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)

    monkeypatch.setattr(FinetuneTrainer, "_clip_grad_norm", theirs)
    (tmp_path / "other").mkdir()
    assert (
        train(experiment(tmp_path / "other", data, **FIXED, max_grad_norm=0.01))["curves"]
        == ours["curves"]
    )
