"""What the rules measure and decide, and the two ways to shrink weights."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp.companions.strong.rules import StrongSettings, decide
from gamma_nlp.companions.strong.shrink import shrink_at_once, shrink_unseen
from gamma_nlp.companions.strong.steps import measure
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


def test_direction_is_magnitude_where_the_penalty_has_nothing_to_do_with_the_loss() -> None:
    sizes = torch.linspace(0.1, 6.0, 40)
    found = torch.stack([torch.ones(40), torch.zeros(40), sizes**2], dim=1)
    for threshold in (0.2, 0.3, 0.7):
        ratio = (1 / threshold**2 - 1) ** 0.5
        how = {"l1": 1.0, "scope": "tensor"}
        acts, _ = decide(found, StrongSettings(rule="direction", threshold=threshold, **how), True)
        same, _ = decide(found, StrongSettings(rule="magnitude", ratio=ratio, **how), True)
        assert torch.equal(acts, same) and 0 < int(acts.sum()) < 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_both_ways_to_shrink_do_the_same(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(size, generator=generator).to(dtype) for size in (5, 40, 7, 300)]
    second = [w.clone() for w in first]
    zeros = [[torch.zeros_like(w, dtype=torch.bool) for w in first] for _ in range(2)]
    doses = torch.tensor([0.5, 0.25, 0.125, 0.0625])
    for turn, acts in enumerate([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]]):
        chosen = torch.tensor(acts, dtype=torch.bool)
        for w, other in zip(first, second, strict=True):
            noise = torch.randn(w.shape, generator=generator).to(dtype)
            w.add_(noise, alpha=0.1)
            other.add_(noise, alpha=0.1)
        shrink_at_once(first, doses, 0.5, 0.25 * turn, chosen, zeros[0])
        shrink_unseen(second, doses, 0.5, 0.25 * turn, chosen, zeros[1])
        for a, b in zip([*first, *zeros[0]], [*second, *zeros[1]], strict=True):
            torch.testing.assert_close(a, b)
    assert sum(int((w == 0).sum()) for w in first) > 10
