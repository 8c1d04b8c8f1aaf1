"""What the rules measure and decide."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.companions.strong.rules import StrongSettings, decide
from gamma_nlp.companions.strong.steps import measure
from gamma_nlp.errors import GammaError
from tests.support.regularized import backward, network, weights


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_measured_is_accurate_in_every_precision(dtype: torch.dtype) -> None:
    model = network(dtype=dtype)
    backward(model, 0)
    gradients = [w.grad.clone() for w in weights(model)]
    found = measure(weights(model), gradients, l1=0.1, l2=0.3)
    for (square, inner, own), w, g in zip(found.tolist(), weights(model), gradients, strict=True):
        w, g = w.detach().double(), g.double()
        r = 0.1 * w.sign() + 0.3 * w
        assert square == pytest.approx(float((g * g).sum()), rel=1e-4)
        assert inner == pytest.approx(float((g * r).sum()), rel=1e-3, abs=1e-5)
        assert own == pytest.approx(float((r * r).sum()), rel=1e-4)


def test_long_sums_are_wider_than_half_precision() -> None:
    ones = [torch.ones(257, dtype=torch.bfloat16)]  # 257 is no bfloat16
    assert measure(ones, ones, l1=0.0, l2=1.0).tolist() == [[257.0, 257.0, 257.0]]
    assert measure(ones, ones, l1=1.0, l2=0.0).tolist() == [[257.0, 257.0, 257.0]]


def test_direction_is_magnitude_where_the_penalty_has_nothing_to_do_with_the_loss() -> None:
    sizes = torch.linspace(0.1, 6.0, 40)
    found = torch.stack([torch.ones(40), torch.zeros(40), sizes**2], dim=1)
    for threshold in (0.2, 0.3, 0.7):
        ratio = (1 / threshold**2 - 1) ** 0.5
        how = {"l1": 1.0, "scope": "tensor"}
        acts, _ = decide(found, StrongSettings(rule="direction", threshold=threshold, **how), True)
        same, _ = decide(found, StrongSettings(rule="magnitude", ratio=ratio, **how), True)
        assert torch.equal(acts, same) and 0 < int(acts.sum()) < 40


def test_where_the_loss_takes_nothing_nothing_is_coherent() -> None:
    found = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    acts, coherence = decide(found, StrongSettings(l1=1.0, scope="tensor"), True)
    assert acts.tolist() == [False, False, True]
    early, _ = decide(found, StrongSettings(l1=1.0, scope="tensor"), False)
    assert not bool(early.any())
    assert coherence[:3].tolist() == [0.0, 0.0, 1.0]


def test_the_delayed_rule_needs_a_delay() -> None:
    with pytest.raises(GammaError, match="'delayed' needs delay_steps"):
        StrongSettings(l1=1.0, rule="delayed")
    assert StrongSettings(l1=1.0, rule="delayed", delay_steps=1).delay_steps == 1
