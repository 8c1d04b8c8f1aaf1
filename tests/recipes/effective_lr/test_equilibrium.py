"""Exponents are found by least squares, from runs that settled."""

from __future__ import annotations

from itertools import product

import pytest

from recipes.common.grid_runner import Done
from recipes.effective_lr.equilibrium import SETTLED, THEORY, Exponents, Point, fit
from recipes.effective_lr.grid import Sweep, settled_points

GRID = [*product((0.1, 0.3), (0.01, 0.05))]


def points(factors: dict[str, float]) -> list[Point]:
    return [
        Point(
            tensor=name,
            lr=lr,
            decay=decay,
            norm=f * lr**0.4 * decay**-0.3,
            predicted=1.0,
            rate=f / lr * decay**2,
        )
        for (name, f), (lr, decay) in product(factors.items(), GRID)
    ]


def test_exponents_are_common_to_tensors_of_different_size() -> None:
    fitted = fit(points({"small": 1.0, "large": 70.0}))
    assert fitted is not None
    assert fitted.norm == pytest.approx((0.4, -0.3))
    assert fitted.rate == pytest.approx((-1.0, 2.0))


def test_points_that_fix_no_exponent_give_none() -> None:
    assert fit([]) is None
    assert fit([p for p in points({"w": 1.0}) if p.lr == 0.1]) is None
    assert fit(points({"w": 1.0})[:1] + points({"other": 2.0})[1:3]) is None


def test_difference_from_theory_is_the_largest_of_the_four() -> None:
    mine = Exponents(norm=(0.25, -0.25), rate=(0.5, 0.45))
    assert mine.off(THEORY["sgd"]) == pytest.approx(0.1)
    assert THEORY["adam"].off(THEORY["adam"]) == 0


def test_only_plain_runs_that_settled_count() -> None:
    sweep = Sweep(network="conv", optimizer="sgd", lrs=(0.1,), decays=(0.01,), seeds=1, epochs=1)

    def done(optimizer: str, unit_norm: bool, turnovers: float, norm: float) -> Done:
        cell = {"network": "conv", "optimizer": optimizer, "unit_norm": unit_norm}
        weight = {"name": "w", "norm": norm, "rate": 2.0, "turnovers": turnovers}
        weight["equilibrium_norm"] = 1.5
        cell |= {"lr": 0.1, "decay": 0.01}
        return Done(cell=cell, result={"weights": [weight]}, seconds=1.0)

    cells = [
        done("sgd", False, SETTLED, 1.0),
        done("sgd", False, 0.9 * SETTLED, 2.0),
        done("sgd", True, 9.0, 3.0),
        done("adam", False, 9.0, 4.0),
    ]
    assert settled_points(cells, sweep) == [
        Point(tensor="w", lr=0.1, decay=0.01, norm=1.0, predicted=1.5, rate=2.0)
    ]
