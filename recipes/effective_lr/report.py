"""What :mod:`recipes.effective_lr.run` found, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from statistics import median
from typing import Any

from recipes.common.grid_runner import Done
from recipes.effective_lr.equilibrium import ALLOWED, SETTLED, THEORY, Exponents, Point, fit
from recipes.effective_lr.grid import Sweep, decades, settled_points, spread
from recipes.effective_lr.plots import NETWORKS, TITLES


def simulations(smoke: bool) -> list[dict[str, Any]]:
    """Return the cells of :func:`.equilibrium.simulate`."""
    grid = decades(0.03, 0.1, 2), decades(0.06, 0.2, 2)
    if not smoke:
        grid = decades(0.01, 0.1, 2), decades(0.02, 0.2, 2)
    return [
        {"rule": rule, "lr": lr, "decay": decay, "seed": 0}
        for rule, lr, decay in product(THEORY, *grid)
    ]


def spreads(done: Sequence[Done], sweeps: Sequence[Sweep]) -> dict[str, dict[str, Any]]:
    """Return each sweep's spread: plain, with UnitNorm, and the part left, mean and at the best."""
    found = {}
    for sweep in sweeps:
        plain, held = spread(done, sweep, False), spread(done, sweep, True)
        found[sweep.name] = {
            "plain": asdict(plain),
            "unit_norm": asdict(held),
            "ratio": held.mean / plain.mean if plain.mean else None,
            "ratio_at_best": held.at_best / plain.at_best if plain.at_best else None,
        }
    return found


def exponents(
    simulated: Sequence[Done], done: Sequence[Done], sweeps: Sequence[Sweep]
) -> dict[str, dict[str, Any]]:
    """Return fitted and predicted exponents of each simulated rule and of settled runs."""
    found: dict[str, dict[str, Any]] = {}
    for rule, theory in THEORY.items():
        points = [
            Point(
                tensor="w",
                lr=one.cell["lr"],
                decay=one.cell["decay"],
                norm=one.result["norm"],
                predicted=one.result["predicted"]["norm"],
                rate=one.result["rate"],
            )
            for one in simulated
            if one.cell["rule"] == rule
        ]
        found[f"simulated {rule}"] = _compared(points, theory, ALLOWED[rule])
    for sweep in sweeps:
        rule = sweep.optimizer
        points = settled_points(done, sweep)
        found[f"{sweep.network} {rule}"] = _compared(points, THEORY[rule], ALLOWED[rule])
    return found


def _compared(points: Sequence[Point], theory: Exponents, allowed: float) -> dict[str, Any]:
    fitted = fit(points)
    parts = sorted(p.norm / p.predicted for p in points)
    return {
        "points": len(points),
        "norm_to_predicted": [parts[0], median(parts), parts[-1]] if parts else None,
        "predicted": asdict(theory),
        "fitted": None if fitted is None else asdict(fitted),
        "largest_difference": None if fitted is None else fitted.off(theory),
        "allowed": allowed,
    }


def spread_lines(found: dict[str, dict[str, Any]], sweeps: Sequence[Sweep]) -> list[str]:
    """Return the table of spreads."""
    lines = [
        "spread of the test error over the decays, in points (largest less smallest mean over",
        "seeds at each lr, then the mean over lr); in brackets at the lr with the lowest error",
        f"{'':42} {'plain':>13} {'UnitNorm':>13} {'part left':>13}  lowest error",
    ]
    for sweep in sweeps:
        one = found[sweep.name]
        plain, held = one["plain"], one["unit_norm"]
        name = f"{NETWORKS[sweep.network]}, {TITLES[sweep.optimizer]}"
        cells = [
            f"{a:5.1f} ({b:4.1f})".rjust(13)
            for a, b in ((plain["mean"], plain["at_best"]), (held["mean"], held["at_best"]))
        ]
        ratios = [
            "-" if ratio is None else f"{ratio:.2f}"
            for ratio in (one["ratio"], one["ratio_at_best"])
        ]
        part = f"{ratios[0]} ({ratios[1]})".rjust(13)
        lowest = f"{plain['lowest']:.1f} -> {held['lowest']:.1f} %"
        lines.append(f"{name:42} {cells[0]} {cells[1]} {part}  {lowest}")
    return lines


def exponent_lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of exponents."""
    lines = [
        "exponents at equilibrium, predicted | fitted",
        f"{'':24} {'|w| in lr':>14} {'|w| in decay':>14} {'rate in lr':>14} {'rate in decay':>14}"
        f"  {'off by':>6} points  |w| to predicted",
    ]
    for name, one in found.items():
        cells = []
        for of, i in product(("norm", "rate"), (0, 1)):
            fitted = "-" if one["fitted"] is None else f"{one['fitted'][of][i]:.3f}"
            cells.append(f"{one['predicted'][of][i]:.3f} | {fitted}".rjust(14))
        off = one["largest_difference"]
        worst = "-" if off is None else f"{off:.1%}"
        parts = one["norm_to_predicted"]
        part = "-" if parts is None else "{:.2f}..{:.2f}..{:.2f}".format(*parts)
        lines.append(f"{name:24} {' '.join(cells)}  {worst:>6} {one['points']:6}  {part}")
    return [
        *lines,
        "last: |w| as a part of what is predicted from the gradients the run had (least, median,",
        f"most). Trainings count from {SETTLED:g} turnovers on: steps x loss of norm per step.",
    ]
