"""A step that a gradient scaler skips, or that is refused, neither decays nor counts."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.errors import GammaError
from tests.support.decay_reference import hooked
from tests.support.optim_models import Toy, train, values
from tests.support.step_hooks import (
    CLASSES,
    COUPLED,
    DECOUPLED,
    DEFERRED,
    OFFSET,
    PARTS,
    START_POLICY,
    backward,
    build,
    decays_of,
    hooks,
)


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_unscaled_inside_a_fused_step_equals_unscaled_before_it(
    native: Native, mode: str, share: float
) -> None:
    """A fused optimizer gets scaled gradients and unscales them itself."""
    models = [Toy(torch.float64), Toy(torch.float64)]
    decays = decays_of(mode, share)
    fast, plain = (hooked(CLASSES[native], m, decays, native, fused=True) for m in models)
    for step in range(6):
        backward(models[0], step)
        for p in models[0].parameters():
            p.grad *= 4
        fast.grad_scale, fast.found_inf = torch.tensor(4.0), torch.tensor(0.0)  # type: ignore
        fast.step()
        train(models[1], plain, 1, step)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=3e-7, atol=1e-8)


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_skipped_steps_of_a_fused_optimizer_neither_decay_nor_count(
    native: Native, mode: str, share: float
) -> None:
    decays = decays_of(mode, share, Schedule(kind="linear", end=0.5, steps=5))
    models = [Toy(torch.float64), Toy(torch.float64)]
    some, all_of = (hooked(CLASSES[native], m, decays, native, fused=True, steps=5) for m in models)
    for step in range(8):
        skip = step in (1, 4, 6)
        some.found_inf = torch.tensor(float(skip))  # type: ignore
        before = values(models[0])
        train(models[0], some, 1, step)
        if skip:
            assert all(torch.equal(v, before[n]) for n, v in values(models[0]).items())
        else:
            train(models[1], all_of, 1, step)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=3e-7, atol=1e-8)
    if share:
        assert [float(g["gamma_calls"]) for g in some.param_groups] == [5.0] * 4
        assert [float(g["gamma_due"]) for g in some.param_groups] == [0.0] * 4
    assert {g["gamma_step"] for g in some.param_groups} == {5}


def test_an_overflow_counted_on_two_devices_still_skips() -> None:
    for share in (0.0, DEFERRED):
        model = Toy()
        optimizer = hooked(torch.optim.SGD, model, decays_of("decoupled", share), "coupled")
        backward(model)
        optimizer.found_inf = torch.tensor(2.0)  # type: ignore[attr-defined]
        before = values(model)
        hooks(optimizer)[0].decay(optimizer)
        assert all(torch.equal(value, before[name]) for name, value in values(model).items())


def test_a_skipped_last_step_applies_nothing() -> None:
    model = Toy()
    optimizer = hooked(
        torch.optim.AdamW, model, decays_of("decoupled", 1.0), "decoupled", fused=True, steps=2
    )
    train(model, optimizer, 1)
    before = values(model)
    optimizer.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    train(model, optimizer, 1, 1)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(float(group["gamma_due"]) > 0 for group in optimizer.param_groups)


@pytest.mark.parametrize(("steps", "skipped"), [(None, {0, 1, 3}), (3, {3, 4})])
def test_a_skipped_step_is_no_application_of_deferred_decay(
    steps: int | None, skipped: set[int]
) -> None:
    """Without a known end its first step has as many calls as the last; or it is after the last."""
    made = []
    for wanted in (range(5), [step for step in range(5) if step not in skipped]):
        optimizer = hooked(
            torch.optim.AdamW,
            model := Toy(),
            decays_of("decoupled", 1.0),
            "decoupled",
            fused=True,
            steps=steps,
        )
        for step in wanted:
            optimizer.found_inf = torch.tensor(float(step in skipped))  # type: ignore[attr-defined]
            train(model, optimizer, 1, step)
        made.append([(g["gamma_calls"], g["gamma_taken"]) for g in optimizer.param_groups])
    assert made[0] == made[1]


@pytest.mark.parametrize("policy", [OFFSET, DECOUPLED], ids=["center", "all"])
def test_too_large_a_step_is_refused_before_anything_moves(policy: DecayPolicy) -> None:
    model = Toy()
    optimizer = build(model, torch.optim.AdamW if policy is OFFSET else torch.optim.SGD, policy)
    backward(model)
    before = values(model)
    optimizer.param_groups[-1 if policy is OFFSET else 0]["lr"] = 0.05
    next(g for g in optimizer.param_groups if "gamma_part" in g)["lr"] = 5.0
    with pytest.raises(GammaError, match=r"lr \* weight_decay is 1 for '.*one step would decay by"):
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "policy", [OFFSET, COUPLED, START_POLICY], ids=["center", "coupled", "start"]
)
def test_grad_scaler_skips_an_overflowing_step_whole(fused: bool, policy: DecayPolicy) -> None:
    model, plain = Toy(), Toy()
    optimizer, unscaled = build(model, policy=policy, fused=fused), build(plain, policy=policy)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(6):
        overflow = step in (0, 3)
        optimizer.zero_grad()
        scaler.scale(model.loss(step)).backward()
        before = values(model)
        if overflow:
            assert model.w.grad is not None
            model.w.grad[0, 0] = float("inf")
        else:
            unscaled.zero_grad()
            plain.loss(step).backward()
            unscaled.step()
        scaler.step(optimizer)
        scaler.update()
        changed = [n for n, value in values(model).items() if not torch.equal(value, before[n])]
        assert len(changed) == (0 if overflow else len(before))
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_coupled_float16_under_a_fused_scaler_is_refused_by_name() -> None:
    model = Toy(torch.float16)
    optimizer = build(model, policy=COUPLED, fused=True)
    backward(model)
    optimizer.grad_scale = torch.tensor(65536.0)
    with pytest.raises(GammaError, match="'embed' is float16 under a gradient scaler"):
        optimizer.step()
