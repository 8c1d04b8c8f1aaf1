from __future__ import annotations

import pytest
import torch

from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.step_hook import decay, decay_reference
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values, zero_gradients

OFFSET = DecayPolicy(name="offset", shortcut=1.0)
COUPLED = DecayPolicy(name="coupled", mode="coupled")


def build(model: Toy, cls=torch.optim.AdamW, policy=OFFSET, **kwargs) -> torch.optim.Optimizer:
    kwargs = {"lr": 0.05, "weight_decay": 0.2, **kwargs}
    return make_optimizer(cls, model, policy=policy, table=toy_table(), **kwargs)


def backward(model: Toy, seed: int = 0) -> None:
    model.zero_grad()
    model.loss(seed).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("policy", [OFFSET, COUPLED], ids=["decoupled", "coupled"])
@pytest.mark.parametrize("maximize", [False, True])
def test_fast_version_equals_the_reference_bit_for_bit(
    dtype: torch.dtype, policy: DecayPolicy, maximize: bool
) -> None:
    models = [Toy(dtype), Toy(dtype)]
    for model, version in zip(models, (decay, decay_reference), strict=True):
        optimizer = build(model, torch.optim.SGD, policy, maximize=maximize)
        if policy is COUPLED:  # the offset gain alone needs the hook
            assert [len(g["params"]) for g in optimizer.param_groups if "gamma_decay" in g] == [1]
        for step in range(5):
            backward(model, step)
            version(optimizer)
    assert_equal(*models)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("policy", [OFFSET, COUPLED], ids=["decoupled", "coupled"])
def test_fast_version_equals_the_reference_with_tensors(policy: DecayPolicy) -> None:
    # A tensor factor is rounded once more than a number, hence a unit in the last place.
    models = [Toy(), Toy()]
    for model, version in zip(models, (decay, decay_reference), strict=True):
        optimizer = build(model, policy=policy, lr=torch.tensor(0.05))
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
        backward(model)
        version(optimizer)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1.2e-7, atol=1e-8)
        torch.testing.assert_close(a.grad, b.grad, rtol=2.4e-7, atol=1e-8)


def test_offset_gain_decays_to_gain_zero() -> None:
    model = Toy()
    optimizer = build(model, torch.optim.SGD, lr=0.1, weight_decay=1.0)
    for _ in range(300):
        zero_gradients(model)
        optimizer.step()
    assert torch.allclose(model.last, torch.full((4,), -1.0), atol=1e-6)
    assert torch.allclose(model.inner, torch.zeros(4), atol=1e-6)


def test_decoupled_hook_on_sgd_equals_the_decay_of_adamw() -> None:
    models = [Toy(torch.float64), Toy(torch.float64)]
    optimizers = [
        build(models[0], torch.optim.SGD, momentum=0.9),
        build(models[1], torch.optim.AdamW),
    ]
    assert "gamma_decay" in optimizers[0].param_groups[0]
    for _ in range(20):
        for model, optimizer in zip(models, optimizers, strict=True):
            zero_gradients(model)
            optimizer.step()
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kind", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}])
def test_coupled_hook_on_adamw_equals_adam(kind: dict, maximize: bool) -> None:
    policy = DecayPolicy(mode="coupled", branch_last=0.0)
    models = [Toy(), Toy()]
    hooked = build(models[0], torch.optim.AdamW, policy, maximize=maximize, **kind)
    native = build(models[1], torch.optim.Adam, policy, maximize=maximize, **kind)
    assert not native._optimizer_step_pre_hooks
    train(models[0], hooked, 10)
    train(models[1], native, 10)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7)


def test_plain_policy_needs_no_hook() -> None:
    optimizer = build(Toy(), policy="none")
    assert not optimizer._optimizer_step_pre_hooks
    assert all("gamma_decay" not in group for group in optimizer.param_groups)


def test_parameter_without_gradient_is_left_alone() -> None:
    model = Toy()
    optimizer = build(model, torch.optim.SGD)
    before = values(model)
    zero_gradients(model)
    model.last.grad = model.w.grad = None
    optimizer.step()
    assert torch.equal(model.last, before["last"]) and torch.equal(model.w, before["w"])
    assert not torch.equal(model.inner, before["inner"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("policy", [OFFSET, COUPLED], ids=["decoupled", "coupled"])
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


def test_overflow_counted_on_two_devices_still_skips() -> None:
    model = Toy()
    optimizer = build(model)
    backward(model)
    optimizer.found_inf = torch.tensor(2.0)
    before = values(model)
    decay(optimizer)
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())


def test_coupled_float16_under_a_fused_scaler_is_refused_by_name() -> None:
    model = Toy(torch.float16)
    optimizer = build(model, policy=COUPLED)
    backward(model)
    optimizer.grad_scale = torch.tensor(65536.0)
    with pytest.raises(GammaError, match="'embed' is float16 under a gradient scaler"):
        decay(optimizer)


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


@pytest.mark.parametrize("policy", [OFFSET, COUPLED], ids=["decoupled", "coupled"])
@pytest.mark.parametrize("keyword", [False, True])
def test_step_with_closure_equals_step_without(policy: DecayPolicy, keyword: bool) -> None:
    models = [Toy(), Toy()]
    plain, closed = (build(model, policy=policy) for model in models)
    train(models[0], plain, 4)
    for step in range(4):

        def closure(step: int = step) -> torch.Tensor:
            closed.zero_grad()
            loss = models[1].loss(step)
            loss.backward()
            return loss

        result = closed.step(closure=closure) if keyword else closed.step(closure)
        assert result is not None
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


def test_replaced_parameters_are_decayed() -> None:
    model = Toy()
    optimizer = build(model, torch.optim.SGD, lr=0.1, weight_decay=1.0)
    group = next(g for g in optimizer.param_groups if g.get("gamma_offset"))
    new = torch.nn.Parameter(torch.zeros(4))
    new.grad = torch.zeros(4)
    group["params"] = [new]  # as sharded data parallel does
    decay(optimizer)
    assert torch.allclose(new, torch.full((4,), -0.1))


def test_sparse_gradient_under_coupled_decay_is_named() -> None:
    model = Toy()
    optimizer = build(model, policy=DecayPolicy(mode="coupled"))
    model.embed.grad = torch.zeros(5, 4).to_sparse()
    with pytest.raises(GammaError, match="parameter 'embed' has a sparse gradient"):
        optimizer.step()


def test_second_decay_written_into_a_hooked_group_is_an_error() -> None:
    model = Toy()
    optimizer = build(model)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.1
    backward(model)
    with pytest.raises(GammaError, match=r"'last' has weight_decay=0.1 beside gamma_decay=0.2"):
        optimizer.step()
