"""The grid over (lr, decay) of :mod:`recipes.effective_lr.run`, and what its cells say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

from recipes.common.grid_runner import Done
from recipes.effective_lr.equilibrium import SETTLED, Point


def decades(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """Return numbers evenly spaced on a logarithmic axis, both ends included, to three digits."""
    count = round(math.log10(high / low) * per_decade)
    return tuple(float(f"{low * 10 ** (i / per_decade):.3g}") for i in range(count + 1))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One network under one optimizer: every (lr, decay), plain and with UnitNorm."""

    network: str
    optimizer: str
    lrs: tuple[float, ...]
    decays: tuple[float, ...]
    seeds: int
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.network}_{self.optimizer}"

    def cells(self) -> list[dict[str, Any]]:
        """Return all training runs, those of the first seed first."""
        return [
            {
                "network": self.network,
                "optimizer": self.optimizer,
                "unit_norm": unit_norm,
                "lr": lr,
                "decay": decay,
                "seed": seed,
                "epochs": self.epochs,
            }
            for seed, unit_norm, lr, decay in product(
                range(self.seeds), (False, True), self.lrs, self.decays
            )
        ]


FULL = (
    Sweep(
        network="conv",
        optimizer="sgd",
        lrs=decades(0.0316, 1, 2),
        decays=decades(1e-4, 1e-1, 1),
        seeds=3,
        epochs=3,
    ),
    Sweep(
        network="conv",
        optimizer="adam",
        lrs=decades(1e-3, 3.16e-2, 2),
        decays=decades(1e-4, 1e-1, 1),
        seeds=2,
        epochs=3,
    ),
    Sweep(
        network="conv",
        optimizer="adamw",
        lrs=decades(1e-3, 3.16e-2, 2),
        decays=decades(1e-2, 1e1, 1),
        seeds=2,
        epochs=3,
    ),
    Sweep(
        network="transformer",
        optimizer="adamw",
        lrs=decades(1e-3, 1e-2, 2),
        decays=decades(1e-2, 1e1, 1),
        seeds=2,
        epochs=2,
    ),
)
SMOKE = tuple(
    Sweep(network=network, optimizer=optimizer, lrs=lrs, decays=(0.01, 0.3), seeds=1, epochs=1)
    for network, optimizer, lrs in [
        ("conv", "sgd", (0.1, 1.0)),
        ("conv", "adam", (0.01, 0.1)),
        ("transformer", "adamw", (0.01, 0.1)),
    ]
)


def mean_errors(
    done: Sequence[Done], sweep: Sweep, unit_norm: bool
) -> dict[tuple[float, float], float]:
    """Return the test error in percent at each (lr, decay), the mean over the seeds."""
    return {point: fmean(errors) for point, errors in _errors(done, sweep, unit_norm).items()}


def _errors(
    done: Sequence[Done], sweep: Sweep, unit_norm: bool
) -> dict[tuple[float, float], list[float]]:
    found: dict[tuple[float, float], list[float]] = {}
    for one in of_sweep(done, sweep):
        if one.cell["unit_norm"] is unit_norm:
            found.setdefault((one.cell["lr"], one.cell["decay"]), []).append(one.result["error"])
    return found


def of_sweep(done: Sequence[Done], sweep: Sweep) -> list[Done]:
    """Return the cells of one sweep."""
    mine = (sweep.network, sweep.optimizer)
    return [one for one in done if (one.cell["network"], one.cell["optimizer"]) == mine]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much the test error depends on the decay, in points.

    Attributes:
        per_lr: For each learning rate, the largest minus the smallest error over the decays.
        mean: Mean of ``per_lr``.
        best_lr: The learning rate with the lowest error of the grid.
        at_best: The spread there.
        lowest: The lowest error of the grid, in percent.
        seeds: Standard deviation of a cell over its seeds, root mean square over all cells; 0 with
            one seed.
    """

    per_lr: dict[float, float]
    mean: float
    best_lr: float
    at_best: float
    lowest: float
    seeds: float


def spread(done: Sequence[Done], sweep: Sweep, unit_norm: bool) -> Spread:
    """Return the spread of one sweep's errors, each the mean over the seeds."""
    errors = mean_errors(done, sweep, unit_norm)
    per_lr = {}
    for lr in sweep.lrs:
        row = [errors[lr, decay] for decay in sweep.decays]
        per_lr[lr] = max(row) - min(row)
    best_lr, _ = min(errors, key=lambda point: errors[point])
    groups = [e for e in _errors(done, sweep, unit_norm).values() if len(e) > 1]
    return Spread(
        per_lr=per_lr,
        mean=fmean(per_lr.values()),
        best_lr=best_lr,
        at_best=per_lr[best_lr],
        lowest=min(errors.values()),
        seeds=math.sqrt(fmean(stdev(e) ** 2 for e in groups)) if groups else 0.0,
    )


def settled_points(done: Sequence[Done], sweep: Sweep) -> list[Point]:
    """Return norms and rates of the plain runs that lasted until their norms settled."""
    return [
        Point(
            tensor=w["name"],
            lr=one.cell["lr"],
            decay=one.cell["decay"],
            norm=w["norm"],
            predicted=w["equilibrium_norm"],
            rate=w["rate"],
        )
        for one in of_sweep(done, sweep)
        if not one.cell["unit_norm"]
        for w in one.result["weights"]
        if w["turnovers"] >= SETTLED
    ]
