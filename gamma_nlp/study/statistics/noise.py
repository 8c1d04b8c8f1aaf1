"""The noise floor: how far apart two runs of the same arm come out, by an A/A arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.paired import Paired


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What the A/A arms moved by, though nothing was changed but a rounding at the start.

    Attributes:
        pairs: How many pairs of runs.
        deviation: Root mean square of their differences: the truth is that there is none.
        largest: The largest of them, as a size.
        moved: Whether any run moved at all; a run that is repeated bit by bit has no floor.
    """

    pairs: int
    deviation: float
    largest: float
    moved: bool

    def covers(self, difference: float, seeds: int) -> bool:
        """Return whether this noise alone would move the mean of so many seeds as far.

        By the interval of 95 % for a mean that is 0. Such a difference is to be flagged: it says
        nothing that repeating the baseline would not say.
        """
        reach = -special.stdtrit(self.pairs, 0.025) * self.deviation / np.sqrt(seeds)
        return bool(abs(difference) <= reach)


def noise_floor(pairs: Sequence[Paired]) -> NoiseFloor:
    """Return the floor that A/A pairs give, all doses together.

    Raises:
        GammaError: There is no pair.
    """
    if not pairs:
        raise GammaError("no A/A arm in this study, so there is no noise floor; set a_a: true")
    differences = np.concatenate([pair.differences for pair in pairs])
    return NoiseFloor(
        pairs=len(differences),
        deviation=float(np.sqrt(np.mean(differences**2))),
        largest=float(np.abs(differences).max()),
        moved=bool(differences.any()),
    )
