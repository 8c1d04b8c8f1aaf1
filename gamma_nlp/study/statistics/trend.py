"""A grid of doses tested as a whole: does the difference grow with the dose?

One contrast of each seed's differences, over the logarithm of the dose, since grids are laid out by
factors (1, 10, 50 %) and a straight line over the dose itself would be the test of its largest dose
alone. One number for each seed, so a t over seeds holds whatever the spreads of the doses are, and
however they hang together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.contrast import Contrast, combine
from gamma_nlp.study.statistics.interval import estimate
from gamma_nlp.study.statistics.paired import Paired


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How an arm's difference changes with the dose.

    Attributes:
        arm: Its name.
        doses: The grid, ascending.
        slope: Change of the difference for ten times the dose, in shown units.
        low, high: Its interval over seeds and items.
        p: Of no slope.
        seeds: How many seeds have every dose.
    """

    arm: str
    doses: tuple[float, ...]
    slope: float
    low: float
    high: float
    p: float
    seeds: int


def trend(
    pairs: Mapping[float, Paired], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Trend:
    """Return the linear contrast over the logarithm of the dose.

    Args:
        pairs: The same arm at each dose, against the baseline of that dose.
        level: Of the interval.
        resamples: Draws of the items.
        seed: Of these draws.

    Raises:
        GammaError: Fewer than two doses, a dose of 0 or less, or no seed that has all doses.
    """
    doses = sorted(pairs)
    if len(doses) < 2:
        raise GammaError(f"a trend needs two doses or more, and there is {len(doses)}")
    if doses[0] <= 0:
        raise GammaError(f"a trend runs over the logarithm of the dose, and one is {doses[0]:g}")
    logs = np.log10(doses)
    weights = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    contrast = combine([Contrast.of_pair(pairs[dose]) for dose in doses], list(weights))
    found = estimate(contrast, resamples, seed)
    low, high = found.interval(level)
    return Trend(
        arm=pairs[doses[0]].arm,
        doses=tuple(doses),
        slope=found.difference,
        low=low,
        high=high,
        p=found.p(),
        seeds=len(contrast.seeds),
    )
