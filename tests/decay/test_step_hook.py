"""The step hook decays as the reference does, to where the policy says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gamma_nlp.decay import step_hook
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.foreach import buckets
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.decay.step_hook import START
from tests.support.decay_reference import Reference, hooked
from tests.support.optim_models import Toy, assert_equal, train, values, zero_gradients
from tests.support.step_hooks import (
    CLASSES,
    COUPLED,
    DECOUPLED,
    DEFERRED,
    PARTS,
    START_POLICY,
    backward,
    build,
    decays_of,
    hooks,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
KINDS: list[dict[str, Any]] = [{}, {"foreach": True}, {"foreach": False}, {"fused": True}]


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hook_equals_the_reference_bit_for_bit(
    dtype: torch.dtype, native: Native, mode: str, share: float
) -> None:
    for maximize in (False, True):
        for kind in KINDS:
            models = [Toy(dtype), Toy(dtype)]
            kwargs = {**kind, "maximize": maximize, "eps": 1e-4}  # float16 has no 1e-8
            decays = decays_of(mode, share)
            fast = hooked(CLASSES[native], models[0], decays, native, **kwargs)
            plain = Reference(CLASSES[native], models[1], decays, native, **kwargs)
            for model, optimizer in zip(models, (fast, plain), strict=True):
                train(model, optimizer, 6)  # type: ignore[arg-type]
            assert_equal(*models)


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.ASGD])
def test_other_optimizers_equal_the_reference_too(cls: Any) -> None:
    for mode, share in (("coupled", 0.0), ("decoupled", 0.0), ("decoupled", DEFERRED)):
        models = [Toy(), Toy()]
        decays = decays_of(mode, share)
        train(models[0], hooked(cls, models[0], decays, "coupled"), 6)
        train(models[1], Reference(cls, models[1], decays, "coupled"), 6)  # type: ignore[arg-type]
        assert_equal(*models)


@pytest.mark.parametrize("kind", ["lr_squared", "constant", "cosine", "linear"])
@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_schedules_equal_the_reference(kind: Any, native: Native, mode: str, share: float) -> None:
    if kind == "constant" and mode == "coupled":
        return
    end = 0.25 if kind in ("cosine", "linear") else 0.0
    decays = decays_of(mode, share, Schedule(kind=kind, end=end))
    models = [Toy(), Toy()]
    made = [
        build(CLASSES[native], model, decays, native, steps=8)
        for build, model in zip((hooked, Reference), models, strict=True)
    ]
    for step in range(8):
        for model, optimizer in zip(models, made, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / 7)  # 0 at the end
            train(model, optimizer, 1, step)
    assert_equal(*models)


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_with_tensors_it_is_within_a_rounding_of_the_reference(
    native: Native, mode: str, share: float
) -> None:
    models = [Toy(torch.float64), Toy(torch.float64)]
    lr = torch.tensor([0.05], dtype=torch.float64)
    decays = decays_of(mode, share)
    fast = hooked(CLASSES[native], models[0], decays, native, lr=lr)
    plain = Reference(CLASSES[native], models[1], decays, native)
    for model, optimizer in zip(models, (fast, plain), strict=True):
        train(model, optimizer, 6)  # type: ignore[arg-type]
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=3e-7, atol=1e-8)


def test_offset_gain_decays_to_gain_zero() -> None:
    model = Toy()
    optimizer = build(model, torch.optim.SGD, lr=0.1, weight_decay=1.0)
    for _ in range(300):
        zero_gradients(model)
        optimizer.step()
    assert torch.allclose(model.last, torch.full((4,), -1.0), atol=1e-6)
    assert torch.allclose(model.inner, torch.zeros(4), atol=1e-6)


def test_gains_decay_to_where_they_began() -> None:
    model = Toy()
    optimizer = build(model, policy=START_POLICY, lr=0.1, weight_decay=1.0)
    first = values(model)
    train(model, optimizer, 5)
    assert not torch.allclose(model.inner, first["inner"], atol=0.1)
    for group in optimizer.param_groups:
        group["betas"] = (0.0, 0.999)  # forgets what it learned
    for _ in range(400):
        zero_gradients(model)
        optimizer.step()
    for name in ("inner", "last"):
        torch.testing.assert_close(model.get_parameter(name), first[name], rtol=0, atol=3e-6)
    assert torch.equal(optimizer.state[model.last][START], first["last"])
    assert model.w.abs().max() < 1e-6


def test_decoupled_hook_on_sgd_equals_the_decay_of_adamw() -> None:
    models = [Toy(), Toy()]
    optimizers = [
        build(models[0], torch.optim.SGD, momentum=0.9, policy=DECOUPLED),
        build(models[1], torch.optim.AdamW, policy=DecayPolicy()),
    ]
    assert optimizers[0].param_groups[0]["gamma_part"] == "all"
    for _ in range(20):
        for model, optimizer in zip(models, optimizers, strict=True):
            zero_gradients(model)
            optimizer.step()
    for name, value in values(models[0]).items():
        other = models[1].get_parameter(name)
        assert name == "last" or torch.equal(value, other), name
    torch.testing.assert_close(models[0].last, models[1].last, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_coupled_hook_on_adamw_equals_adam(kind: dict, maximize: bool) -> None:
    policy = DecayPolicy(mode="coupled", branch_last=0.0)
    models = [Toy(), Toy()]
    own = build(models[0], torch.optim.AdamW, policy, maximize=maximize, **kind)
    native = build(models[1], torch.optim.Adam, policy, maximize=maximize, **kind)
    assert hooks(own) and not hooks(native)
    train(models[0], own, 10)
    train(models[1], native, 10)
    if kind.get("fused"):  # adds with one rounding fewer
        for a, b in zip(*(m.parameters() for m in models), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7)
    else:
        assert_equal(*models)


def test_plain_policy_needs_no_hook() -> None:
    optimizer = build(Toy(), policy="none")
    assert not hooks(optimizer)
    assert not any(key.startswith("gamma_") for group in optimizer.param_groups for key in group)


def test_tensors_are_sorted_anew_only_where_gradients_come_or_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sorted_here = []

    def watched(weights: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        sorted_here.append(weights)
        return buckets(weights)

    monkeypatch.setattr(step_hook, "buckets", watched)
    model = Toy()
    optimizer = build(model, policy=COUPLED)
    groups = sum("gamma_part" in group for group in optimizer.param_groups)
    for _ in range(3):
        backward(model)
        optimizer.step()
    assert len(sorted_here) == groups
    model.inner.requires_grad_(False)
    for _ in range(2):
        backward(model)
        optimizer.step()
    assert len(sorted_here) == groups + 1
    assert all(model.inner is not w for w in sorted_here[-1])


def test_learning_rate_is_read_at_each_step_and_may_be_a_tensor() -> None:
    models = [Toy(torch.float64), Toy(torch.float64)]
    number = build(models[0], lr=0.05)
    tensor = build(models[1], lr=torch.tensor(0.05, dtype=torch.float64))
    for step in range(6):
        for model, optimizer in zip(models, (number, tensor), strict=True):
            train(model, optimizer, 1, step)
        for a, b in zip(number.param_groups, tensor.param_groups, strict=True):
            a["lr"] *= 0.5
            b["lr"].mul_(0.5) if b is tensor.param_groups[0] else None
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_a_schedule_of_weight_decay_reaches_every_group(
    native: Native, mode: str, share: float
) -> None:
    """As a scheduler sets it: ``group["weight_decay"] = x``."""
    models = [Toy(), Toy()]
    decays = decays_of(mode, share)
    fast = hooked(CLASSES[native], models[0], decays, native)
    plain = Reference(CLASSES[native], models[1], decays, native)
    for step in range(6):
        now = 0.3 * (1 - step / 5)
        for group in fast.param_groups:
            assert group["weight_decay"] == pytest.approx(0.3 * (1 - max(step - 1, 0) / 5))
            group["weight_decay"] = now
        plain.decays = {
            name: Decay(coefficient=now or 1e-300, center=d.center, mode=d.mode, share=d.share)
            for name, d in decays.items()
        }
        train(models[0], fast, 1, step)
        train(models[1], plain, 1, step)  # type: ignore[arg-type]
    assert_equal(*models)


def groups_with_part(optimizer: torch.optim.Optimizer) -> Iterator[dict[str, Any]]:
    yield from (group for group in optimizer.param_groups if "gamma_part" in group)


def test_progress_moves_to_the_device_where_a_rate_does() -> None:
    """A tensor for a learning rate in the middle of a run goes on from the same progress."""
    models = [Toy(torch.float64), Toy(torch.float64)]
    decays = decays_of("decoupled", DEFERRED)
    a, b = (hooked(torch.optim.AdamW, m, decays, "decoupled") for m in models)
    for step in range(8):
        if step == 3:
            for group in b.param_groups:
                group["lr"] = torch.tensor(0.05, dtype=torch.float64)
        train(models[0], a, 1, step)
        train(models[1], b, 1, step)
    for one, other in zip(groups_with_part(a), groups_with_part(b), strict=True):
        assert float(other["gamma_due"]) == pytest.approx(one["gamma_due"])
        assert float(other["gamma_taken"]) == one["gamma_taken"] > 0
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(p, q, rtol=3e-7, atol=1e-8)


def test_the_peak_of_a_scheduler_that_keeps_it_wins() -> None:
    """OneCycleLR writes its largest rate into each group."""
    model = Toy()
    decays = decays_of("decoupled", 0.0, Schedule(kind="lr_squared"))
    optimizer = hooked(torch.optim.AdamW, model, decays, "decoupled")
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=10)
    train(model, optimizer, 1)
    group = optimizer.param_groups[0]
    assert group["lr"] != 0.05
    assert group["weight_decay"] == pytest.approx(0.3 * group["lr"] / 0.2)


def test_what_is_due_at_the_last_step_is_applied_although_decay_has_ended() -> None:
    model, other = Toy(), Toy()
    decays = decays_of("decoupled", 1.0, Schedule(kind="linear"))
    optimizer = hooked(torch.optim.AdamW, model, decays, "decoupled", steps=4)
    plain = Reference(torch.optim.AdamW, other, decays, "decoupled", steps=4)
    train(model, optimizer, 4)
    train(other, plain, 4)  # type: ignore[arg-type]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}
    assert {group["gamma_due"] for group in optimizer.param_groups} == {0.0}
    assert_equal(model, other)
