"""Gradients stay the user's, and closures, inner steps and odd gradients decay once."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.step_hook import START
from gamma_nlp.errors import GammaError
from tests.support.decay_reference import hooked
from tests.support.optim_models import Toy, assert_equal, train, values, zero_gradients
from tests.support.step_hooks import (
    CLASSES,
    COUPLED,
    OFFSET,
    PARTS,
    START_POLICY,
    backward,
    build,
    decays_of,
    hooks,
)


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
