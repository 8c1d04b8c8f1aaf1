"""What stays with an optimizer: progress through copies and states, and parameters added later."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gamma_nlp.decay.attached import decided_for, planned_groups
from gamma_nlp.decay.groups import Decay
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.saved_state import PROGRESS_KEYS
from gamma_nlp.decay.step_hook import START
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values

STEPS = 24
RATES = [0.02 * (1 - step / STEPS) for step in range(STEPS)]
EVERYTHING = DecayPolicy(
    name="everything",
    shift=1.0,
    shortcut=1.0,
    head=1.0,
    target="one",
    targets={"branch_last": "start", "shift": "start"},
    schedules={
        "weight": "lr_squared",
        "head": {"kind": "cosine", "end": 0.5},
        "shortcut": {"kind": "linear", "end": 0.5},
    },  # type: ignore
)


def build(model: nn.Module, policy: Any = EVERYTHING, **kwargs: Any) -> torch.optim.Optimizer:
    settings = {"lr": 0.02, "weight_decay": 0.2, "rates": RATES, **kwargs}
    return make_optimizer(torch.optim.AdamW, model, policy=policy, table=toy_table(), **settings)


def run(model: Toy, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        train(model, optimizer, 1, step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [1, 7, 13])
def test_a_killed_run_resumes_bit_for_bit(dtype: torch.dtype, stop: int) -> None:
    """With targets and schedules, and in 16 bits with decay that is gathered."""
    straight, killed, resumed = Toy(dtype), Toy(dtype), Toy(dtype)
    optimizer = build(straight)
    parts = {group.get("gamma_part") for group in optimizer.param_groups}
    assert ("deferred" in parts) == (dtype == torch.bfloat16)
    run(straight, optimizer, 0, STEPS)

    before = build(killed)
    run(killed, before, 0, stop)
    file = io.BytesIO()
    torch.save({"model": killed.state_dict(), "optimizer": before.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    after = build(resumed)
    resumed.load_state_dict(saved["model"])
    after.load_state_dict(saved["optimizer"])
    run(resumed, after, stop, STEPS)
    assert_equal(straight, resumed)
    for one, other in zip(optimizer.param_groups, after.param_groups, strict=True):
        assert {k: one.get(k) for k in PROGRESS_KEYS} == {k: other.get(k) for k in PROGRESS_KEYS}


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_from_the_same_progress(way: str) -> None:
    model = Toy(torch.bfloat16)
    optimizer = build(model)
    run(model, optimizer, 0, 7)
    if way == "deepcopy":
        other, own = copy.deepcopy((model, optimizer))
    else:
        file = io.BytesIO()
        torch.save((model, optimizer), file)
        file.seek(0)
        other, own = torch.load(file, weights_only=False)
    run(model, optimizer, 7, STEPS)
    run(other, own, 7, STEPS)
    assert_equal(model, other)
    assert decided_for(own) is not None and decided_for(own).policy == EVERYTHING  # type: ignore


def test_regrouping_keeps_first_values_and_what_is_due() -> None:
    """Gains that shared a group are apart now: each brings the progress of the shared one."""
    model, other = Toy(torch.bfloat16), Toy(torch.bfloat16)
    old = build(model, DecayPolicy(shortcut=1.0, head=1.0, target="start"))
    run(model, old, 0, 7)
    new = build(other, DecayPolicy(shortcut=0.5, head=0.25, target="start"))
    new.load_state_dict(old.state_dict())
    by_name = {name: group for group in new.param_groups for name in group["param_names"]}
    shared = next(group for group in old.param_groups if "trunk" in group["param_names"])
    assert "final" in shared["param_names"] and by_name["trunk"] is not by_name["final"]
    for name in ("trunk", "final", "inner"):
        assert by_name[name]["gamma_due"] == shared["gamma_due"] > 0
        assert by_name[name]["gamma_calls"] == 7
        start = new.state[other.get_parameter(name)][START]
        assert torch.equal(start, Toy(torch.bfloat16).get_parameter(name))


def test_decay_that_was_gathered_goes_on_so_although_the_values_have_moved() -> None:
    """A step of 2**-22 is 2.6 units of a float32 at 1.31, rounded to 3, and exactly 3 at 0.75."""
    lr = 2.0**-19
    settings: dict[str, Any] = {"lr": lr, "weight_decay": 0.125, "rates": [lr] * 10}
    policy = DecayPolicy(name="gains", weight=0.0)
    model, other = Toy(), Toy()
    with torch.no_grad():
        for m in (model, other):
            m.inner.fill_(1.31)
    old = build(model, policy, **settings)
    assert [g["param_names"] for g in old.param_groups if "gamma_share" in g] == [["inner"]]
    run(model, old, 0, 3)
    with torch.no_grad():
        other.inner.fill_(0.75)
    new = build(other, policy, **settings)
    assert not any("gamma_share" in group for group in new.param_groups)
    new.load_state_dict(old.state_dict())
    by_name = {name: group for group in new.param_groups for name in group["param_names"]}
    assert by_name["inner"]["gamma_part"] == "deferred"
    assert by_name["inner"]["gamma_calls"] == 3
    stronger = build(other, policy, **{**settings, "weight_decay": 0.25})
    stronger.load_state_dict(old.state_dict())
    assert not any("gamma_share" in group for group in stronger.param_groups)
    kept = build(other, DecayPolicy(name="gains", weight=0.0, rounding="keep"), **settings)
    kept.load_state_dict(old.state_dict())
    assert not any("gamma_share" in group for group in kept.param_groups)


def test_a_state_with_a_hook_in_it_brings_no_hook_but_decay_that_needs_one_does() -> None:
    model = Toy()
    optimizer = build(model, "none")
    assert not optimizer._optimizer_step_pre_hooks
    optimizer.load_state_dict(build(Toy(), EVERYTHING).state_dict())
    assert not optimizer._optimizer_step_pre_hooks


def thawed(policy: Any = "guidelines", **kwargs: Any) -> tuple[Toy, torch.optim.Optimizer]:
    """An optimizer made while two gains and a shift were frozen."""
    model = Toy()
    later = (model.inner, model.last, model.inner_shift)
    for p in later:
        p.requires_grad_(False)
    optimizer = build(model, policy, rates=None, **kwargs)
    for p in later:
        p.requires_grad_(True)
    return model, optimizer


def test_added_parameters_of_the_model_get_the_decay_of_the_policy() -> None:
    model, optimizer = thawed()
    assert not optimizer._optimizer_step_pre_hooks
    optimizer.add_param_group(
        {"params": [model.inner_shift, model.last, model.inner], "lr": 0.5, "betas": (0.5, 0.9)}
    )
    found = {name: group for group in optimizer.param_groups for name in group["param_names"]}
    decay = {n: (found[n]["weight_decay"], found[n].get("gamma_center")) for n in found}
    assert decay["inner"] == (0.2, None) and decay["inner_shift"] == (0.0, None)
    assert decay["last"] == (0.2, -1.0)
    for name in ("inner", "last", "inner_shift"):
        assert (found[name]["lr"], found[name]["betas"]) == (0.5, (0.5, 0.9))
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    whole = Toy()
    fresh = build(whole, "guidelines", rates=None)
    for group in optimizer.param_groups:
        group.update(lr=0.02, betas=(0.9, 0.999))
    train(model, optimizer, 5)
    train(whole, fresh, 5)
    assert_equal(model, whole)
    fresh.load_state_dict(optimizer.state_dict())


def test_one_tensor_or_named_ones_can_be_added() -> None:
    model, optimizer = thawed()
    optimizer.add_param_group({"params": model.inner})
    optimizer.add_param_group({"params": [("last", model.last)]})
    assert [g["param_names"] for g in optimizer.param_groups[-2:]] == [["inner"], ["last"]]


def test_parameters_that_the_policy_does_not_know_need_a_weight_decay() -> None:
    model, optimizer = thawed()
    before = len(optimizer.param_groups)
    new = nn.Parameter(torch.ones(3))
    with pytest.raises(GammaError, match=r"'added' \(of shape \(3,\)\).*'weight_decay': 0.0}"):
        optimizer.add_param_group({"params": [model.inner, new]})
    assert len(optimizer.param_groups) == before
    optimizer.add_param_group({"params": [new], "weight_decay": 0.7})
    optimizer.add_param_group({"params": nn.Parameter(torch.ones(2)), "weight_decay": 0.0})
    optimizer.add_param_group({"params": [model.inner], "weight_decay": 0.3})
    added = [(g["param_names"], g["weight_decay"]) for g in optimizer.param_groups[before:]]
    assert added == [(["added"], 0.7), (["added.0"], 0.0), (["inner"], 0.3)]
    optimizer.load_state_dict(optimizer.state_dict())
    duplicate = copy.deepcopy(optimizer)
    with pytest.raises(GammaError, match="the decay policy does not know 'added"):
        duplicate.add_param_group({"params": [nn.Parameter(torch.ones(3))]})


def test_a_replaced_layer_can_be_added_under_its_old_name() -> None:
    model = Toy()
    optimizer = build(model, "guidelines", rates=None)
    model.inner = nn.Parameter(torch.ones(4))
    optimizer.add_param_group({"params": [model.inner]})
    last = optimizer.param_groups[-1]
    assert (last["param_names"], last["weight_decay"]) == (["inner.0"], 0.2)


def test_added_parameters_come_in_where_the_run_is() -> None:
    """The clock of a ramp and of the last step is that of the run, not of the group."""
    model = Toy(torch.bfloat16)
    model.final.requires_grad_(False)
    optimizer = build(model)
    run(model, optimizer, 0, 7)
    model.final.requires_grad_(True)
    optimizer.add_param_group({"params": [model.final]})
    group = optimizer.param_groups[-1]
    assert (group["gamma_schedule"], group["gamma_step"], group["gamma_calls"]) == ("cosine", 7, 7)


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -1.0, True, "0.1"])
def test_a_learning_rate_that_is_none_is_named(lr: Any) -> None:
    with pytest.raises(GammaError, match=r"lr must be a finite number >= 0, got"):
        build(Toy(), rates=None, lr=lr)
    with pytest.raises(GammaError, match=r"rates\[1\] must be a finite number >= 0, got"):
        build(Toy(), rates=[0.1, lr])


def test_states_from_before_the_hook_had_parts_are_reported_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saved = build(Toy(), "guidelines").state_dict()
    for group in saved["param_groups"]:
        if "gamma_part" in group:
            group.update(gamma_decay=0.2, gamma_offset=1.0, weight_decay=0.0)
            for key in ("gamma_part", "gamma_center"):
                del group[key]
    optimizer = build(Toy(), "guidelines")
    with caplog.at_level(logging.INFO, "gamma_nlp"):
        optimizer.load_state_dict(saved)
    assert caplog.messages == [
        "decay changed on load, branch_last: 0.2 -> 0.2 toward -1 (1: 'last')"
    ]
    assert not any("gamma_decay" in group for group in optimizer.param_groups)


def test_accelerate_resumes_bit_for_bit(tmp_path: Any) -> None:
    from accelerate import Accelerator

    def prepared() -> tuple[Any, Any, Any]:
        model = Toy(torch.bfloat16)
        accelerator = Accelerator(cpu=True)
        own, optimizer = accelerator.prepare(model, build(model))
        return accelerator, own, optimizer

    _, straight, optimizer = prepared()
    run(straight, optimizer, 0, STEPS)
    accelerator, killed, before = prepared()
    run(killed, before, 0, 7)
    accelerator.save_state(str(tmp_path))
    accelerator, resumed, after = prepared()
    accelerator.load_state(str(tmp_path))
    assert not all(torch.equal(v, values(straight)[n]) for n, v in values(resumed).items())
    run(resumed, after, 7, STEPS)
    assert_equal(straight, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_step_does_the_same(dtype: torch.dtype) -> None:
    model, other = Toy(dtype), Toy(dtype)
    optimizer, compiled = build(model), build(other)
    step = torch.compile(compiled.step)
    for number in range(6):
        for group in (*optimizer.param_groups, *compiled.param_groups):
            group["lr"] = RATES[0]
        train(model, optimizer, 1, number)
        compiled.zero_grad()
        other.loss(number).backward()
        step()
    rough = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 4e-3}
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, **rough)
    for one, two in zip(optimizer.param_groups, compiled.param_groups, strict=True):
        assert {k: one.get(k) for k in PROGRESS_KEYS} == {k: two.get(k) for k in PROGRESS_KEYS}


def test_an_earlier_part_of_the_run_decides_what_is_deferred() -> None:
    """As the Trainer makes its groups: after it has loaded the weights of a checkpoint."""
    lr, named = 2.0**-19, dict(Toy().named_parameters())
    decays = {"inner": Decay(coefficient=0.125), "trunk": Decay(coefficient=0.125)}
    named = {"inner": nn.Parameter(torch.full((4,), 1.31)), "trunk": named["trunk"]}
    settings: dict[str, Any] = {"native": "decoupled", "lr": lr, "rates": [lr] * 10}
    with torch.no_grad():
        named["trunk"].fill_(0.75)
    first = planned_groups(named, decays, **settings)
    earlier = {name: group for group in first for name in group["param_names"]}
    assert {n: "gamma_share" in g for n, g in earlier.items()} == {"inner": True, "trunk": False}
    with torch.no_grad():
        named["inner"].fill_(0.75)
        named["trunk"].fill_(1.31)
    assert planned_groups(named, decays, **settings, earlier=earlier) == first
    assert planned_groups(named, decays, **settings) != first
    other = {name: dataclasses.replace(d, coefficient=0.25) for name, d in decays.items()}
    for changed in (other, {n: dataclasses.replace(d, rounding="keep") for n, d in decays.items()}):
        asked = planned_groups(named, changed, **settings, earlier=earlier)
        assert asked == planned_groups(named, changed, **settings)


def test_copies_ask_for_the_decay_of_whatever_is_added() -> None:
    _, optimizer = thawed()
    model, duplicate = copy.deepcopy((Toy(), optimizer))
    with pytest.raises(GammaError, match="the decay policy does not know 'inner'"):
        duplicate.add_param_group({"params": [("inner", model.inner)]})


@pytest.mark.parametrize(
    "rates", [torch.linspace(1e-3, 0.0, 5), np.linspace(1e-3, 0.0, 5), (1e-3 for _ in range(5))]
)
def test_planned_rates_are_any_numbers_in_order(rates: Any) -> None:
    policy = DecayPolicy(schedule="cosine")  # type: ignore[arg-type]
    optimizer = make_optimizer(
        torch.optim.AdamW,
        Toy(),
        weight_decay=0.1,
        lr=1e-3,
        policy=policy,
        table=toy_table(),
        rates=rates,
    )
    assert {g["gamma_steps"] for g in optimizer.param_groups if "gamma_steps" in g} == {5}


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (1e-3, "rates must be the learning rates of the run, one for every step, got 0.001"),
        ([], r"one for every step, got \[\]"),
        ("1e-3", "one for every step, got '1e-3'"),
        (torch.ones(2, 2), "one for every step, got tensor"),
        ([1e-3, math.nan], r"rates\[1\] must be a finite number >= 0, got nan"),
        ([[1e-3, 1e-4]], r"rates\[0\] must be a finite number >= 0, got \[0.001"),
        ([1e-3, None], r"rates\[1\] must be a finite number >= 0, got None"),
    ],
)
def test_planned_rates_that_are_none_are_named(rates: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        make_optimizer(
            torch.optim.AdamW, Toy(), weight_decay=0.1, lr=1e-3, table=toy_table(), rates=rates
        )
