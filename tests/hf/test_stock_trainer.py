"""Checkpoints go from the stock Trainer to this one and back, and nothing is lost on the way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from gamma_nlp import DecayPolicy, GammaError, categorize, make_optimizer
from gamma_nlp.decay.group_keys import PROGRESS_KEYS
from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.decay.stock_layout import OURS
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.wrappers import unwrap_optimizer
from tests.support.tiny_models import arguments, texts, tiny_gpt2

EVERYTHING = DecayPolicy(
    name="everything",
    shift=1.0,
    target="one",
    targets={"shift": "start", "head": "start"},
    schedules={"weight": Schedule(kind="lr_squared"), "branch_inner": Schedule(kind="cosine")},
)
"""On a GPT-2 of bfloat16 also deferred."""


class Stop(TrainerCallback):
    """Ends a run as a kill does, right after its checkpoint."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = True


def run(
    folder: Path,
    policy: Any,
    *,
    resume: Path | None = None,
    dtype: torch.dtype = torch.float32,
    stop: bool = False,
    **changes: Any,
) -> Any:
    settings: dict[str, Any] = {
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 4,
        "warmup_steps": 2,
        "lr_scheduler_type": "cosine",
        **changes,
    }
    kind: Any = Trainer if policy is None else GammaTrainer
    trainer = kind(
        model=tiny_gpt2().to(dtype),
        args=arguments(folder, **settings),
        train_dataset=texts(32),
        callbacks=[Stop()] if stop else [],
        **({} if policy is None else {"decay_policy": policy}),
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def same(one: Any, other: Any) -> bool:
    weights = dict(other.model.named_parameters())
    return all(torch.equal(weights[name], p) for name, p in one.model.named_parameters())


@pytest.mark.parametrize("changes", [{}, {"optim": "sgd", "optim_args": "momentum=0.9"}])
def test_the_stock_trainer_goes_on_where_this_one_stopped(tmp_path: Path, changes: Any) -> None:
    """Its rule is the policy ``hugging_face`` names, so both halves are one stock run."""
    straight = run(tmp_path / "stock", None, **changes)
    names = straight.get_decay_parameter_names(straight.model)
    rule = DecayPolicy(
        name="stock rule",
        branch_inner=0.0,
        branch_last=0.0,
        patterns={name: float(name in names) for name, _ in straight.model.named_parameters()},
    )
    run(tmp_path / "ours", rule, stop=True, **changes)
    back = run(tmp_path / "ours", None, resume=tmp_path / "ours" / "checkpoint-4", **changes)
    assert same(straight, back)
    groups = unwrap_optimizer(back.optimizer).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert len({group["lr"] for group in groups}) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_of_any_policy_is_readable_by_both(tmp_path: Path, dtype: torch.dtype) -> None:
    settings: Any = {"dtype": dtype, "weight_decay": 0.5, "learning_rate": 2e-3}
    straight = run(tmp_path / "straight", EVERYTHING, **settings)
    parts = {g.get("gamma_part") for g in unwrap_optimizer(straight.optimizer).param_groups}
    assert ("deferred" in parts) == (dtype == torch.bfloat16)
    killed = run(tmp_path / "killed", EVERYTHING, stop=True, **settings)
    checkpoint = tmp_path / "killed" / "checkpoint-4"
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    assert len(saved["param_groups"]) == 2 < len(saved[OURS])
    for group in saved["param_groups"]:
        assert not any(key.startswith("gamma") for key in group)
    run(tmp_path / "stock", None, resume=checkpoint, dtype=dtype)  # no error, nothing asked

    resumed = run(tmp_path / "resumed", EVERYTHING, resume=checkpoint, **settings)
    assert same(straight, resumed) and not same(straight, killed)
    for one, other in zip(
        *(unwrap_optimizer(t.optimizer).param_groups for t in (straight, resumed)), strict=True
    ):
        assert {k: one.get(k) for k in PROGRESS_KEYS} == {k: other.get(k) for k in PROGRESS_KEYS}


def test_there_and_back_again_first_values_survive(tmp_path: Path) -> None:
    run(tmp_path / "a", EVERYTHING, stop=True)
    run(tmp_path / "b", None, resume=tmp_path / "a" / "checkpoint-4")
    again = run(tmp_path / "c", EVERYTHING, resume=tmp_path / "b" / "checkpoint-8", max_steps=9)
    optimizer = unwrap_optimizer(again.optimizer)
    name = "transformer.h.0.ln_1.bias"
    start = optimizer.state[again.model.get_parameter(name)]["gamma_start"]
    assert torch.equal(start, tiny_gpt2().get_parameter(name))


def test_a_checkpoint_that_the_stock_trainer_cannot_read_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class OwnRates(GammaTrainer):
        def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
            for number, group in enumerate(unwrap_optimizer(self.optimizer).param_groups):
                group["lr"] = 1e-3 * (number + 1)
            return super().create_scheduler(*args, **kwargs)

    args = arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    trainer = OwnRates(model=tiny_gpt2(), args=args, train_dataset=texts())
    with caplog.at_level(logging.WARNING, "gamma_nlp"):
        trainer.train()
    assert "the stock Trainer cannot load the optimizer's state" in caplog.text
    assert "different lr" in caplog.text and "delete optimizer.pt and scheduler.pt" in caplog.text
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_record_names_the_policy_of_the_optimizer_that_was_given(tmp_path: Path) -> None:
    model = tiny_gpt2()
    given = make_optimizer(torch.optim.AdamW, model, weight_decay=0.3, lr=1e-3, policy="all")
    args = arguments(tmp_path, max_steps=1, weight_decay=0.1)
    trainer = GammaTrainer(
        model=model,
        args=args,
        train_dataset=texts(),
        decay_policy="none",
        optimizers=(given, None),
    )
    trainer.train()
    record = json.loads((tmp_path / "gain_table.json").read_text(encoding="utf-8"))
    assert (record["policy"]["name"], record["weight_decay"]) == ("all", 0.3)
    assert {gain["coefficient"] for gain in record["gains"]} == {0.3}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-3])
def test_a_learning_rate_that_is_none_is_named(tmp_path: Path, value: float) -> None:
    args = arguments(tmp_path, learning_rate=value)
    with pytest.raises(GammaError, match="learning_rate must be a finite number >= 0, got"):
        GammaTrainer(model=tiny_gpt2(), args=args, train_dataset=texts())


def groups_planned(folder: Path, policy: Any, **changes: Any) -> list[dict[str, Any]]:
    kind: Any = changes.pop("kind", GammaTrainer)
    steps = {"num_train_epochs": 3, "max_steps": -1, **changes}
    trainer = kind(
        model=tiny_gpt2(), args=arguments(folder, **steps), train_dataset=texts(16),
        decay_policy=policy,
    )  # fmt: skip
    trainer.train()
    return unwrap_optimizer(trainer.optimizer).param_groups


class Triangle(GammaTrainer):
    """Makes a scheduler of its own, whose rates cannot be planned before the optimizer is there."""

    def create_scheduler(self, num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 0.5, 1.0, 3)
        return self.lr_scheduler


def test_ramps_peaks_and_the_last_step_are_those_of_the_run(tmp_path: Path) -> None:
    policy = DecayPolicy(name="ramp", schedule="cosine", schedules={"embedding": "lr_squared"})
    groups = groups_planned(tmp_path, policy)
    ramps = {g["gamma_schedule"]: g for g in groups if "gamma_schedule" in g}
    assert ramps["cosine"]["gamma_steps"] == ramps["cosine"]["gamma_step"] == 12
    assert ramps["cosine"]["weight_decay"] == pytest.approx(0.0, abs=1e-12)
    assert ramps["lr_squared"]["gamma_peak"] == 1e-3
    warm = groups_planned(tmp_path, policy, warmup_steps=30, max_steps=8)
    assert {g["gamma_peak"] for g in warm if "gamma_peak" in g} == {1e-3 * 7 / 30}
    own = groups_planned(tmp_path, policy, kind=Triangle, warmup_steps=30)
    assert {g["gamma_steps"] for g in own if g.get("gamma_schedule") == "cosine"} == {12}
    assert {g["gamma_peak"] for g in own if "gamma_peak" in g} == {1e-3}


def test_weights_that_a_norm_follows_are_found_although_a_name_table_knows_the_model(
    tmp_path: Path,
) -> None:
    """AdamC's schedule on a model whose gains need no forward pass."""
    policy = DecayPolicy(name="adamc", schedules={"normalized": "lr_squared"})
    (followed,) = [
        {*group["param_names"]}
        for group in groups_planned(tmp_path, policy)
        if group.get("gamma_schedule") == "lr_squared"
    ]
    graph = categorize(tiny_gpt2(), method="graph").normalized
    assert graph and followed == graph
    made = make_optimizer(
        torch.optim.AdamW,
        model := tiny_gpt2(),
        weight_decay=0.1,
        lr=1e-3,
        policy=policy,
        table=categorize(model, method="table"),
    )
    scheduled = [group for group in made.param_groups if "gamma_schedule" in group]
    assert {name for group in scheduled for name in group["param_names"]} == graph


def test_groups_with_rates_of_their_own_have_peaks_of_their_own(tmp_path: Path) -> None:
    model = tiny_gpt2()
    head = [p for name, p in model.named_parameters() if "wte" in name]
    rest = [p for name, p in model.named_parameters() if "wte" not in name]
    choice = {"params": [{"params": head, "lr": 5e-3}, {"params": rest}], "lr": 1e-3}
    trainer = GammaTrainer(
        model=model,
        args=arguments(tmp_path, warmup_steps=1),
        train_dataset=texts(),
        decay_policy=DecayPolicy(schedule="lr_squared"),
        optimizer_cls_and_kwargs=(torch.optim.AdamW, choice),
    )
    trainer.train()
    peaks = {
        name: group["gamma_peak"]
        for group in unwrap_optimizer(trainer.optimizer).param_groups
        for name in group["param_names"]
        if "gamma_peak" in group
    }
    assert peaks["transformer.wte.weight"] == 5e-3
    assert peaks["transformer.h.0.ln_1.weight"] == 1e-3
