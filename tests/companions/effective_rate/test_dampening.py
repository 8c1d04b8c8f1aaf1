"""Dampening makes each gradient smaller once there is momentum, and does nothing without it."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.companions.effective_rate.rate import effective_lr


@pytest.mark.parametrize(("momentum", "rate"), [(0.75, 0.4), (0.0, 0.2)])
def test_dampening_lowers_the_rate_that_momentum_raises(momentum: float, rate: float) -> None:
    w = torch.ones(4, requires_grad=True)  # norm 2
    w.grad = torch.full((4,), 0.5)
    optimizer = torch.optim.SGD([w], lr=0.8, momentum=momentum, dampening=0.5)
    assert effective_lr(optimizer)[0].rate == pytest.approx(rate)
