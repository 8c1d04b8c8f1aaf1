"""Gradients that a forward pass takes itself, and noise that it draws, move no gain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import GammaError, categorize, probe
from tests.support.structures import HEAD, INNER, LAST, D, Net, linear, mlp, norm, short, signal


def block(m: Any, x: Tensor) -> Tensor:
    out: Tensor = m.out(m.final(x + m.mlp(m.norm(x))))
    return out


def net(forward: Any, **members: Any) -> Net:
    torch.manual_seed(0)
    return Net(forward, norm=norm(), mlp=mlp(), final=norm(), out=linear(), **members)


def check(model: nn.Module, inputs: Any = None, **expected: str) -> None:
    inputs = signal() if inputs is None else inputs
    table = categorize(model, inputs)
    assert short(table) == (expected or {"norm": INNER, "final": HEAD})
    assert probe(model, inputs, table).verdict == "agrees"


def force(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x.requires_grad_(True)
    energy = block(m, x).sum()
    return energy, -torch.autograd.grad(energy, x, create_graph=True)[0]


def force_alone(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return -torch.autograd.grad(block(m, x).sum(), x)[0]


def functional(m: Any, x: Tensor) -> Tensor:
    return torch.func.grad(lambda y: block(m, y).sum())(x)


def trained_in_the_pass(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        block(m, x).square().mean().backward()
        for parameter in m.parameters():
            parameter.data.sub_(0.1 * parameter.grad)
    return block(m, x)


def fast_weights(m: Any, x: Tensor) -> Tensor:
    def run(weight: Tensor, gain: Tensor) -> Tensor:
        h = F.linear(F.layer_norm(x, (D,), gain, m.norm.bias), weight)
        return m.out(m.final(x + m.mlp[2](h.relu())))

    own = (m.mlp[0].weight, m.norm.weight)
    steps = torch.autograd.grad(run(*own).square().mean(), own)
    return run(own[0] - 0.1 * steps[0], own[1] - 0.1 * steps[1])


@pytest.mark.parametrize(
    "forward", [force, force_alone, functional, trained_in_the_pass, fast_weights]
)
def test_gradient_in_the_pass_leaves_every_gain_in_its_place(forward: Any) -> None:
    x = signal()
    check(net(forward), x)
    assert not x.requires_grad


def test_step_along_a_gradient_is_a_residual_branch() -> None:
    def descend(m: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            energy = m.mlp(m.norm(x)).square().sum()
            x = x - 0.1 * torch.autograd.grad(energy, x)[0]
        return m.out(m.final(x))

    check(net(descend))


def test_derivative_in_forward_mode_is_refused() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return torch.func.jvp(lambda y: block(m, y), (x,), (x,))

    with pytest.raises(GammaError, match=r"in forward mode \(torch.func.jvp\).*autograd.grad"):
        categorize(net(forward), signal())


def test_gradient_that_cannot_be_taken_says_so() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return torch.autograd.grad(x.detach().sum(), x)

    with pytest.raises(GammaError, match="does not require grad"):
        categorize(net(forward), signal())


# Noise --------------------------------------------------------------------------------------------


def noisy_input(m: Any, x: Tensor) -> Tensor:
    return block(m, x + 0.1 * torch.randn(x.shape))


def reparametrised(m: Any, x: Tensor) -> Tensor:
    return block(m, x + torch.randn_like(x) * m.scale(x).exp())


def dropout_that_is_never_off(m: Any, x: Tensor) -> Tensor:
    return m.out(m.final(x + F.dropout(m.mlp(m.norm(x)), 0.3, training=True)))


def denoising(m: Any, x: Tensor) -> Tensor:
    noise = torch.randn_like(x)
    return F.mse_loss(block(m, 0.7 * x + 0.3 * noise), noise)


@pytest.mark.parametrize(
    "forward", [noisy_input, reparametrised, dropout_that_is_never_off, denoising]
)
def test_noise_is_no_signal_beside_one(forward: Any) -> None:
    check(net(forward, **({"scale": linear()} if forward is reparametrised else {})))


def test_branch_that_is_dropped_at_random_in_any_mode_ends_with_its_norm() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(0.7)
        return m.out(m.final(x + keep * m.norm(m.mlp(x))))

    check(net(forward), norm=LAST, final=HEAD)


@pytest.mark.parametrize("inputs", [(), (2,)])
def test_generator_that_starts_from_noise_has_its_noise_for_a_signal(inputs: Any) -> None:
    def forward(m: Any, count: int = 2) -> Tensor:
        return block(m, m.embed(0.5 * torch.randn(count, 5, D)))

    check(net(forward, embed=linear()), inputs)
