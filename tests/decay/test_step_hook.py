from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gamma_nlp.decay import step_hook
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.foreach import buckets
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.decay.step_hook import START, StepHook
from gamma_nlp.errors import GammaError
from tests.support.decay_reference import Reference, hooked
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values, zero_gradients

OFFSET = DecayPolicy(name="offset", shortcut=1.0)
DECOUPLED = DecayPolicy(name="decoupled", mode="decoupled")
COUPLED = DecayPolicy(name="coupled", mode="coupled")
START_POLICY = DecayPolicy(name="start", target="start")
DEFERRED = 0.02
CLASSES: dict[Native, type] = {"coupled": torch.optim.Adam, "decoupled": torch.optim.AdamW}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
KINDS: list[dict[str, Any]] = [{}, {"foreach": True}, {"foreach": False}, {"fused": True}]


def build(model: Toy, cls: Any = torch.optim.AdamW, policy: Any = OFFSET, **kwargs: Any) -> Any:
    kwargs = {"lr": 0.05, "weight_decay": 0.2, **kwargs}
    return make_optimizer(cls, model, policy=policy, table=toy_table(), **kwargs)


def backward(model: Toy, seed: int = 0) -> None:
    model.zero_grad()
    model.loss(seed).backward()


def decays_of(mode: Any, share: float, schedule: Schedule = LR) -> dict[str, Decay]:
    """Every parameter decays; the centers take turns."""
    centers: Any = (0.0, -1.0, 1.0, "start")
    return {
        name: Decay(
            coefficient=0.3, center=centers[i % 4], mode=mode, share=share, schedule=schedule
        )
        for i, (name, _) in enumerate(Toy().named_parameters())
    }


PARTS = [
    pytest.param(native, mode, share, id=f"{mode} on {native}{' deferred' * bool(share)}")
    for native in ("coupled", "decoupled")
    for mode, share in (("coupled", 0.0), ("decoupled", 0.0), ("decoupled", DEFERRED))
]


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


def hooks(optimizer: torch.optim.Optimizer) -> list[StepHook]:
    found = optimizer._optimizer_step_pre_hooks.values()
    return [h.__self__ for h in found if isinstance(getattr(h, "__self__", None), StepHook)]


def test_plain_policy_needs_no_hook() -> None:
    optimizer = build(Toy(), policy="none")
    assert not hooks(optimizer)
    assert not any(key.startswith("gamma_") for group in optimizer.param_groups for key in group)


def test_parameter_without_gradient_is_left_alone() -> None:
    for policy in (OFFSET, COUPLED, START_POLICY):
        model = Toy()
        optimizer = build(model, torch.optim.SGD, policy)
        before = values(model)
        zero_gradients(model)
        model.last.grad = model.w.grad = None
        optimizer.step()
        assert torch.equal(model.last, before["last"]) and torch.equal(model.w, before["w"])
        assert model.last not in optimizer.state or START not in optimizer.state[model.last]
        assert policy is START_POLICY or not torch.equal(model.inner, before["inner"])


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


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW])
def test_gradients_are_the_users_after_a_coupled_step(cls: Any) -> None:
    """Without zero_grad, backward adds up gradients: decay must not be among them."""
    for policy in (COUPLED, START_POLICY, DecayPolicy(mode="coupled", target="one")):
        model = Toy()
        optimizer = build(model, cls, policy)
        backward(model)
        held = {name: p.grad for name, p in model.named_parameters()}
        before = {name: grad.clone() for name, grad in held.items()}
        for _ in range(3):
            optimizer.step()
        for name, p in model.named_parameters():
            assert p.grad is held[name] and torch.equal(p.grad, before[name])


def test_a_failed_step_leaves_nothing_behind() -> None:
    class Fails(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            seen.append(model.w.grad)
            raise RuntimeError("out of memory")

    model, seen = Toy(), []
    optimizer = build(model, Fails, COUPLED, native_decay="decoupled")
    backward(model)
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for _ in range(2):
        with pytest.raises(RuntimeError):
            optimizer.step()
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], before["w"])
    hooks(optimizer)[0]._put_back()
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, 0.2}
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.equal(p.grad, before[name])


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


@pytest.mark.parametrize("policy", [OFFSET, COUPLED], ids=["decoupled", "coupled"])
def test_accumulated_gradients_decay_once_per_step(policy: DecayPolicy) -> None:
    models = [Toy(torch.float64), Toy(torch.float64)]
    optimizers = [build(model, policy=policy) for model in models]
    for step in range(4):
        for model, optimizer, parts in zip(models, optimizers, (1, 4), strict=True):
            optimizer.zero_grad()
            for _ in range(parts):
                (model.loss(step) / parts).backward()
            optimizer.step()
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def closure_of(model: Toy, optimizer: Any, step: int) -> torch.Tensor:
    optimizer.zero_grad()
    loss = model.loss(step)
    loss.backward()
    return loss


@pytest.mark.parametrize(("native", "mode", "share"), PARTS)
def test_step_with_closure_equals_step_without(native: Native, mode: str, share: float) -> None:
    decays = decays_of(mode, share)
    models = [Toy(), Toy(), Toy()]
    optimizers = [hooked(CLASSES[native], m, decays, native) for m in models]
    train(models[0], optimizers[0], 4)
    for step in range(4):
        first, second = (
            functools.partial(closure_of, model, optimizer, step)
            for model, optimizer in zip(models[1:], optimizers[1:], strict=True)
        )
        assert optimizers[1].step(first) is not None
        assert optimizers[2].step(closure=second) is not None
    assert_equal(models[0], models[1])
    assert_equal(models[0], models[2])


class Twice(torch.optim.SGD):
    """Takes the gradients of a step twice, as sharpness-aware minimisation does."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()
            loss = closure()
        super().step()
        return loss


@pytest.mark.parametrize(("native", "mode", "share"), PARTS[:3])
def test_gradients_taken_twice_decay_once(native: Native, mode: str, share: float) -> None:
    decays = decays_of(mode, share)
    models = [Toy(), Toy()]
    once, twice = (
        hooked(cls, m, decays, native)
        for cls, m in zip((torch.optim.SGD, Twice), models, strict=True)
    )
    for step in range(4):
        for model, optimizer in zip(models, (once, twice), strict=True):

            def closure(model: Toy = model, step: int = step) -> None:
                for p in model.parameters():  # the same, wherever the parameters are
                    p.grad = torch.full_like(p, 0.1 * step)

            optimizer.step(closure)
    assert_equal(*models)


class Clipping(torch.optim.SGD):
    """Hands on to the step of its base class, which runs the hooks of a step again."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return super().step(closure)


@pytest.mark.parametrize(("native", "mode", "share"), PARTS[:3])
@pytest.mark.parametrize("closed", [False, True])
def test_a_step_inside_a_step_decays_once(
    native: Native, mode: str, share: float, closed: bool
) -> None:
    decays = decays_of(mode, share)
    models = [Toy(), Toy()]
    made = [
        hooked(cls, m, decays, native)
        for cls, m in zip((torch.optim.SGD, Clipping), models, strict=True)
    ]
    for step in range(4):
        for model, optimizer in zip(models, made, strict=True):
            if closed:
                optimizer.step(functools.partial(closure_of, model, optimizer, step))
            else:
                train(model, optimizer, 1, step)
    assert_equal(*models)


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


def test_replaced_parameters_are_decayed() -> None:
    model = Toy()
    optimizer = build(model, torch.optim.SGD, lr=0.1, weight_decay=1.0)
    group = next(g for g in optimizer.param_groups if g.get("gamma_center"))
    new = torch.nn.Parameter(torch.zeros(4))
    new.grad = torch.zeros(4)
    group["params"] = [new]  # as sharded data parallel does
    optimizer.step()
    assert torch.allclose(new, torch.full((4,), -0.1))


def test_sparse_gradient_under_coupled_decay_is_named() -> None:
    model = Toy()
    optimizer = build(model, policy=COUPLED)
    model.embed.grad = torch.zeros(5, 4).to_sparse()
    with pytest.raises(GammaError, match="parameter 'embed' has a sparse gradient"):
        optimizer.step()


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
