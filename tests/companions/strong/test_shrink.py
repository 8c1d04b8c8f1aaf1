"""Shrinking: where the proximal step ends, and the same from every way to take it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gamma_nlp.companions.strong import shrink
from gamma_nlp.companions.strong.shrink import (
    bundles,
    proximal,
    shrink_at_once,
    shrink_scaled,
    shrink_unseen,
)


def at_once(w: Tensor, dose: float, l1: float, l2: float, act: bool, zero: Tensor) -> None:
    shrink_at_once([w], torch.tensor([dose]), l1, l2, torch.tensor([act]), [zero])


def unseen(w: Tensor, dose: float, l1: float, l2: float, act: bool, zero: Tensor) -> None:
    shrink_unseen([w], torch.tensor([dose]), l1, l2, torch.tensor([act]), [zero])


def scaled(w: Tensor, dose: float, l1: float, l2: float, act: bool, zero: Tensor) -> None:
    reach, acts = torch.full_like(w, dose), torch.tensor([act])
    shrink_scaled([w], [reach], l1=l1, l2=l2, acts=acts, zeros=[zero])


Way = Callable[[Tensor, float, float, float, bool, Tensor], None]
WAYS = pytest.mark.parametrize("way", [at_once, unseen, scaled])


def test_bundles_are_of_one_type_and_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "TOGETHER", 10)
    half = [torch.ones(3, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)]
    tensors = [*map(torch.ones, (4, 6, 5, 5, 12, 2)), *half]
    found = [(one.start, one.stop) for one in bundles(tensors)]
    assert found == [(0, 2), (2, 4), (4, 5), (5, 6), (6, 8)]
    assert list(bundles(half[:1])) == [slice(0, 1)] and list(bundles([])) == []


@pytest.mark.parametrize(("l1", "l2"), [(1.0, 0.0), (0.0, 2.0), (1.0, 2.0)])
def test_the_proximal_step_ends_where_penalty_and_distance_are_least(l1: float, l2: float) -> None:
    w = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)
    reach = torch.linspace(0.1, 4.0, 61, dtype=torch.float64)
    v = proximal(w, reach, l1, l2)
    slope = l1 * v.sign() + l2 * v + (v - w) / reach
    assert bool((slope[v != 0].abs() < 1e-12).all())
    assert bool((w[v == 0].abs() <= l1 * reach[v == 0]).all())


@WAYS
def test_zeros_stay_until_the_next_shrinking_and_are_found_anew_then(way: Way) -> None:
    w, zero = torch.tensor([3.0, 0.25, -2.0, 0.0]), torch.zeros(4, dtype=torch.bool)
    way(w, 0.5, 1.0, 0.0, True, zero)
    assert w.tolist() == [2.5, 0.0, -1.5, 0.0] and zero.tolist() == [False, True, False, True]
    w += torch.tensor([-2.5, 0.75, 0.0, 0.25])
    way(w, 0.5, 1.0, 0.0, False, zero)  # the first is 0 too, but was not made 0
    assert w.tolist() == [0.0, 0.0, -1.5, 0.0] and zero.tolist() == [False, True, False, True]
    w += torch.tensor([1.0, 0.75, 0.0, 0.25])
    way(w, 0.5, 1.0, 0.0, True, zero)
    assert w.tolist() == [0.5, 0.25, -1.0, 0.0] and zero.tolist() == [False, False, False, True]


@WAYS
def test_l2_never_turns_a_sign(way: Way) -> None:
    w = torch.tensor([3.0, -1.0])
    way(w, 2.0, 0.0, 1.0, True, torch.zeros(2, dtype=torch.bool))
    explicit = [0.0, 0.0]  # 1 - 2 is below 0
    assert w.tolist() == (pytest.approx([1.0, -1 / 3]) if way is scaled else explicit)


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
