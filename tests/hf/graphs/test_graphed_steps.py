"""Recorded steps train as usual ones do; checked with a recorder that keeps a GPU's rules."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from gamma_nlp import DecayPolicy
from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.decay.step_hook import has_hook
from gamma_nlp.hf.graphs import steps
from gamma_nlp.hf.graphs.capture import Capture, Plain
from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tape import Tape
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2


class GraphedTrainer(GraphedSteps, GammaTrainer):
    graphs = "on"


def trained(
    folder: Path,
    capture: Capture | None,
    model: nn.Module | None = None,
    callbacks: Any = None,
    data: Any = None,
    policy: Any = "all",
    **changes: Any,
) -> GraphedTrainer:
    settings = {
        "optim": "adamw_torch_fused",
        "max_steps": 10,
        "warmup_steps": 3,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        **changes,
    }
    trainer = GraphedTrainer(
        model=tiny_bert() if model is None else model,
        args=arguments(folder, **settings),
        train_dataset=classified() if data is None else data,
        eval_dataset=classified(),
        decay_policy=policy,
        callbacks=callbacks,
    )
    trainer.capture = capture
    if capture is None:
        trainer.graphs = "off"
    trainer.train()
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def logged(trainer: Any) -> list[dict[str, float]]:
    kept = ("loss", "grad_norm", "learning_rate", "eval_loss", "gain_norm/shortcut")
    return [{k: v for k, v in entry.items() if k in kept} for entry in trainer.state.log_history]


def same(one: Any, other: Any) -> None:
    assert logged(one) == logged(other)
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def close(one: Any, other: Any) -> None:
    """As ``same``, where a recorded model makes its mask in another way."""
    first, second = weights(one), weights(other)
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-4, atol=1e-5)


def dropping() -> nn.Module:
    model = tiny_bert()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    return model


@pytest.mark.parametrize(("capture", "clip"), [(Plain, 0.05), (Tape, 0.05), (Tape, 0.0)])
def test_recorded_steps_equal_usual_ones(tmp_path: Path, capture: Any, clip: float) -> None:
    changes = {"max_grad_norm": clip, "eval_strategy": "steps", "eval_steps": 4}
    usual = trained(tmp_path / "usual", None, dropping(), **changes)
    recorded = trained(tmp_path / "recorded", capture(), dropping(), **changes)
    same(recorded, usual)


def test_each_shape_is_recorded_when_it_comes_back(tmp_path: Path) -> None:
    def rows(*widths: int) -> list[dict[str, Any]]:
        return [
            {"input_ids": torch.randint(5, 60, (width,)), "labels": number % 2}
            for width in widths
            for number in range(4)
        ]

    torch.manual_seed(0)
    data = rows(4, 6, 8)
    changes = {"per_device_train_batch_size": 4, "train_sampling_strategy": "sequential"}
    usual = trained(tmp_path / "usual", None, data=data, **changes)
    tape = Tape()
    recorded = trained(tmp_path / "recorded", tape, data=data, **changes)
    same(recorded, usual)
    # 3 shapes, clipping and the optimizer; 10 steps have 30 parts, each done once before.
    assert (tape.recorded, tape.rehearsed, tape.replayed) == (5, 5, 30 - 5)


def test_shapes_beyond_the_limit_run_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "MOST_SHAPES", 1)
    torch.manual_seed(0)
    data = [
        {"input_ids": torch.randint(5, 60, (width,)), "labels": number % 2}
        for number in range(8)
        for width in (4, 8)
    ]
    changes = {"per_device_train_batch_size": 1, "train_sampling_strategy": "sequential"}
    recorded = trained(tmp_path / "recorded", Tape(), data=data, **changes)
    same(recorded, trained(tmp_path / "usual", None, data=data, **changes))
    told = [r.getMessage() for r in caplog.records if "more than 1 shapes" in r.getMessage()]
    assert len(told) == 1


class At(TrainerCallback):
    """Does something before the optimizer of step 6, and of every step after it."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= 5:
            self.what(kwargs["model"], kwargs["optimizer"], state.global_step)


def decay_more(model: nn.Module, optimizer: Any, step: int) -> None:
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.5 if group["weight_decay"] else 0.0


def decay_ever_more(model: nn.Module, optimizer: Any, step: int) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.01 * step


def freeze(model: Any, optimizer: Any, step: int) -> None:
    model.classifier.weight.requires_grad_(step % 4 > 1)


def move(model: Any, optimizer: Any, step: int) -> None:
    if step in (5, 8):
        model.classifier.weight.data = model.classifier.weight.data.clone()


RARE = [pytest.param(what, marks=pytest.mark.slow) for what in (decay_ever_more, move)]


@pytest.mark.parametrize("what", [decay_more, freeze, *RARE])
def test_what_changes_between_steps_stays_live(tmp_path: Path, what: Any) -> None:
    usual = trained(tmp_path / "usual", None, callbacks=[At(what)])
    tape = Tape()
    same(trained(tmp_path / "recorded", tape, callbacks=[At(what)]), usual)
    assert tape.replayed > 8


@pytest.mark.parametrize(
    "policy",
    [
        DecayPolicy(name="coupled", mode="coupled", branch_inner=1.0),
        pytest.param(
            DecayPolicy(name="to-one", branch_inner=1.0, targets={"branch_inner": "one"}),
            marks=pytest.mark.slow,
        ),
        DecayPolicy(name="to-start", branch_inner=1.0, targets={"branch_inner": "start"}),
    ],
    ids=lambda policy: policy.name,
)
def test_the_step_hook_is_recorded_with_the_step(tmp_path: Path, policy: DecayPolicy) -> None:
    runs = []
    for name, capture in (("usual", None), ("recorded", Tape())):
        folder = tmp_path / name
        runs.append(trained(folder, capture, tiny_gpt2(), data=texts(), policy=policy))
    usual, recorded = runs
    assert has_hook(usual.optimizer.optimizer)
    close(recorded, usual)
    # On a CPU adding one number to many tensors reads it, which no recording allows.
    assert recorded.capture.recorded == (2 if policy.name == "to-one" else 3)


def test_a_schedule_of_decay_leaves_the_optimizer_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = DecayPolicy(name="ramp", branch_inner=1.0, schedule=Schedule(kind="cosine"))
    usual = trained(tmp_path / "usual", None, tiny_gpt2(), data=texts(), policy=policy)
    tape = Tape()
    recorded = trained(tmp_path / "recorded", tape, tiny_gpt2(), data=texts(), policy=policy)
    close(recorded, usual)
    assert tape.recorded == 2
    assert "step runs as usual, since the decay of" in caplog.text


def test_an_optimizer_that_reads_numbers_runs_as_usual(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"optim": "adamw_torch", "optim_args": "foreach=False"}
    tape = Tape()
    recorded = trained(tmp_path / "recorded", tape, **changes)
    same(recorded, trained(tmp_path / "usual", None, **changes))
    assert "graphs: the optimizer's step runs as usual, since operation not" in caplog.text
    assert tape.recorded == 2


class Looks(nn.Module):
    """A layer whose flow depends on its data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum().item() > 0 else x


class Drops(nn.Module):
    """A layer that is left out at random, in Python."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if random.random() < 0.5 else x * 1.5


@pytest.mark.parametrize(
    ("layer", "why"),
    [(Looks, "none from step 2 on, since operation not permitted"), (Drops, "random numbers")],
)
def test_a_model_that_decides_in_python_runs_as_usual(
    layer: Any, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = []
    for name, capture in (("usual", None), ("recorded", Tape())):
        model: Any = dropping()
        model.dropout = layer()
        random.seed(3)
        runs.append(trained(tmp_path / name, capture, model))
    same(*runs)
    assert why in caplog.text
    assert runs[1].capture.replayed == 0


def test_nothing_is_left_in_place_after_training(tmp_path: Path) -> None:
    usual, recorded = (
        trained(tmp_path / name, capture, save_steps=6, save_strategy="steps")
        for name, capture in (("usual", None), ("recorded", Tape()))
    )
    assert "_clip_grad_norm" not in vars(recorded)
    assert recorded.optimizer.optimizer.step.__func__.__name__ == "step"
    for group in recorded.optimizer.param_groups:
        assert isinstance(group["lr"], float)
    states = [
        torch.load(tmp_path / name / "checkpoint-6" / "optimizer.pt", weights_only=True)
        for name in ("usual", "recorded")
    ]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    del usual


def test_a_recorded_run_resumes_with_the_same_bits(tmp_path: Path) -> None:
    first = trained(tmp_path / "one", Tape(), dropping(), save_steps=6, save_strategy="steps")
    second = GraphedTrainer(
        model=dropping(), args=first.args, train_dataset=classified(), decay_policy="all"
    )
    second.capture = Tape()
    second.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-6"))
    one, other = weights(second), weights(first)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert second.capture.replayed > 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"activation_checkpointing": True}, "checkpointing"),
        ({"torch_empty_cache_steps": 2}, "torch_empty_cache_steps"),
    ],
)
def test_what_cannot_be_recorded_is_told_in_one_line(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    trainer = GraphedTrainer(
        model=tiny_bert(), args=arguments(tmp_path, **changes), train_dataset=classified()
    )
    trainer.capture = Tape()
    line = trainer.graphs_line()
    assert line is not None and line.startswith("graphs: none, since ") and why in line
    if "gradient_accumulation_steps" in changes:
        trainer.train()
        assert trainer.capture.rehearsed == 0


def test_layer_drop_is_told_before_training(tmp_path: Path) -> None:
    trainer = GraphedTrainer(
        model=tiny_bert(), args=arguments(tmp_path), train_dataset=classified()
    )
    trainer.capture = Plain()
    line = trainer.graphs_line()
    assert line is not None and "once per shape" in line
    trainer.model.bert.layerdrop = 0.1
    line = trainer.graphs_line()
    assert line is not None and "layer drop" in line


def test_without_a_gpu_auto_says_nothing_and_on_says_why(tmp_path: Path) -> None:
    trainer = GraphedTrainer(
        model=tiny_bert(), args=arguments(tmp_path), train_dataset=classified()
    )
    assert trainer.graphs_line() == "graphs: none, since the device is cpu, not cuda"
    trainer.graphs = "auto"
    assert trainer.graphs_line() is None
