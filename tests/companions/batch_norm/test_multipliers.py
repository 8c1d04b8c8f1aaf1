"""The multipliers that one backward pass measures, against closed forms and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gamma_nlp.companions.batch_norm.multipliers import multipliers
from gamma_nlp.companions.batch_norm.penalty import bn_penalty
from gamma_nlp.errors import GammaError
from tests.support.batch_norms import normal, put_at_optimum, unit

LINEAR, X = nn.Linear(3, 2), torch.zeros(9, 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), gain=st.floats(0.1, 5.0), size=st.integers(1, 6))
def test_one_backward_pass_measures_the_multiplier_of_the_closed_form(
    seed: int, gain: float, size: int
) -> None:
    x, noise = normal(50, size, seed=seed), normal(50, 2, seed=seed + 1)
    x = x @ normal(size, size, seed=seed + 2) + 3
    y = x @ normal(size, 2, seed=seed + 3) + noise
    layer, norm = unit(size, 2, gain=gain)
    put_at_optimum(layer, x, y)
    net = nn.Sequential(layer, norm)
    # The loss is a mean over both units; each has half of it, and so half of the multiplier.
    measured = 2 * multipliers(net, lambda net, x: mse_loss(net(x), y) / 2, [x])["1"]
    predicted = bn_penalty(layer, x, norm=norm, targets=y)
    torch.testing.assert_close(measured, predicted.mu, rtol=1e-7, atol=1e-9)
    assert float(predicted.gap.max()) < 1e-7
    doubled = 2 * multipliers(net, lambda net, x: mse_loss(net(x), y), [x])["1"]
    torch.testing.assert_close(doubled, 2 * measured)


def test_the_multiplier_is_what_the_loss_would_gain_from_a_larger_gain() -> None:
    layer, norm = unit(4, 3, gain=0.8)
    net = nn.Sequential(layer, norm, nn.ReLU(inplace=True), nn.Linear(3, 2).double())
    x, label = normal(64, 4), torch.arange(64) % 2

    def loss_fn(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(net(batch[0]), batch[1])

    found = multipliers(net, loss_fn, [(x, label)])["1"]
    loss_fn(net, (x, label)).backward()
    torch.testing.assert_close(found, -norm.weight.grad / norm.weight.detach())


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 3, 2)])
def test_batches_count_by_their_size(shape: tuple[int, ...]) -> None:
    """Against the gradient by the gain of what all batches together lose."""
    norm: Any = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d][len(shape) - 1](4).double()
    x = normal(42, *shape) * 3
    y = normal(42, *shape, seed=1)
    batches = [(x[:3], y[:3]), (x[3:35], y[3:35]), (x[35:], y[35:])]

    def loss_fn(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (net(batch[0]) - batch[1]).square().mean()

    net = nn.Sequential(norm)
    found = multipliers(net, loss_fn, batches)["0"]
    whole = torch.stack([loss_fn(net, one) * len(one[0]) / 42 for one in batches]).sum()
    (slope,) = torch.autograd.grad(whole, [norm.weight])
    torch.testing.assert_close(found, -slope, rtol=1e-4, atol=1e-6)  # at gain 1, up to eps
    alike = multipliers(
        net,
        loss_fn,
        [(a.repeat(2, *[1] * len(shape)), b.repeat(2, *[1] * len(shape))) for a, b in batches],
    )
    torch.testing.assert_close(alike["0"], found)


def test_a_norm_that_is_called_twice_counts_both_calls() -> None:
    layer, norm = unit(3, 2, gain=0.7)
    first, second, y = normal(9, 3), normal(9, 3, seed=1), normal(9, 2, seed=2)
    net = nn.Sequential(layer, norm)

    def loss_fn(net: nn.Module, _: Any) -> Tensor:
        return (net(first) * net(second) - y).square().mean()

    found = multipliers(net, loss_fn, [None])["1"]
    loss_fn(net, None).backward()
    torch.testing.assert_close(found, -norm.weight.grad / norm.weight.detach())


def test_measuring_leaves_the_model_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    net.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batches = [normal(8, 3).float(), normal(8, 3, seed=1).float()]
    once = multipliers(net, lambda net, x: net(x).square().mean(), batches)
    again = multipliers(net, lambda net, x: net(x).square().mean(), batches)
    assert torch.equal(once["1"], again["1"])
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert not net[1]._forward_hooks


def test_multipliers_need_norms_batches_and_a_loss() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def loss_fn(net: nn.Module, x: Tensor) -> Tensor:
        return net(x).square().mean()

    with pytest.raises(GammaError, match="Linear has no batch norm"):
        multipliers(LINEAR, loss_fn, [X])
    with pytest.raises(GammaError, match=r"batches is a Tensor; expected .*: \[batch\] for one"):
        multipliers(net, loss_fn, X)
    with pytest.raises(GammaError, match="batches are empty"):
        multipliers(net, loss_fn, [])
    with pytest.raises(GammaError, match="one finite number"):
        multipliers(net, lambda net, x: net(x), [X])
    with pytest.raises(GammaError, match="did not call the norm '1'"):
        multipliers(net, lambda net, x: net[0](x).sum(), [X])
    with pytest.raises(GammaError, match="the loss does not depend on any norm"):
        multipliers(net, lambda net, x: net(x).sum().detach(), [X])
    with pytest.raises(GammaError, match="does not depend on the norm '1'"):
        multipliers(net, lambda net, x: (net(x) * 0).detach().sum() + net[0](x).sum(), [X])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_multipliers_need_no_gradients_around_them(mode: Any) -> None:
    net, x = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), normal(9, 3).float()

    def loss_fn(net: nn.Module, x: Tensor) -> Tensor:
        return (net(x) - x[:, :2]).square().mean()

    expected = multipliers(net, loss_fn, [x])["1"]
    with mode():
        assert torch.equal(multipliers(net, loss_fn, [x])["1"], expected)


def squares(net: nn.Module, batch: Any) -> Tensor:
    """A loss that calls the net as often as a batch says."""
    x, y, calls = batch
    outputs = [net(x.roll(call, 1)) for call in range(calls)]
    return (torch.stack(outputs).prod(0) - y).square().mean()


def test_a_batch_that_is_called_twice_counts_no_more_than_others() -> None:
    norm = nn.BatchNorm1d(3).double()
    norm.bias.data.fill_(0.5)  # the mean of the output has no part in mu
    net = nn.Sequential(norm)
    batches = [(normal(20, 3), normal(20, 3, seed=1), 2), (normal(5, 3), normal(5, 3, seed=2), 1)]
    found = multipliers(net.eval(), squares, batches)["0"]  # uses the batch in any mode
    net.train()
    whole = torch.stack([squares(net, one) * len(one[0]) / 25 for one in batches]).sum()
    (slope,) = torch.autograd.grad(whole, [norm.weight])
    torch.testing.assert_close(found, -slope, rtol=1e-3, atol=1e-6)  # at gain 1, up to eps


def test_a_unit_that_does_not_vary_has_no_multiplier() -> None:
    x = normal(16, 3)
    x[:, 1] = 2.0
    net = nn.Sequential(nn.BatchNorm1d(3).double())
    found = multipliers(net, squares, [(x, normal(16, 3, seed=1), 1)])["0"]
    assert found.isnan().tolist() == [False, True, False]
