"""What stays with an optimizer: progress through copies and states."""

from __future__ import annotations

import copy
import io
import logging
from typing import Any

import pytest
import torch

from gamma_nlp.decay.attached import decided_for
from gamma_nlp.decay.group_keys import PROGRESS_KEYS
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.step_hook import START
from tests.support.decay_runs import EVERYTHING, RATES, STEPS, build, run
from tests.support.optim_models import Toy, assert_equal, train, values


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
