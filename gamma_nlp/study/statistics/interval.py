"""From a difference and its two variances to an interval, a p and a test of equivalence.

Seeds are few, so theirs is a t quantile; items are many, and how they are skewed is the
bootstrap's to say. The two are combined as Cochran and Cox combine two samples of unequal spread:
each quantile weighted by its share of the variance. All three answers come from one curve, so that
p < 5 % and an interval that leaves out 0 are the same statement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from gamma_nlp.study.statistics.contrast import Contrast
from gamma_nlp.study.statistics.items import resampled
from gamma_nlp.study.statistics.spread import Spread, spread

SMALLEST = 1e-12
"""No p is told smaller."""
TAIL = 0.025


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A difference, its spread, and the skew of its items (1: as far as a normal would reach)."""

    difference: float
    spread: Spread
    skew_low: float = 1.0
    skew_high: float = 1.0

    def half_width(self, tail: float, skew: float) -> float:
        """Return how far the interval reaches on a side that leaves out ``tail``."""
        seeds, items = self.spread.seeds, self.spread.items
        if seeds + items == 0:
            return 0.0
        t_seeds = -special.stdtrit(self.spread.seeds_df, tail) if seeds else 0.0
        t_items = _t(self.spread.items_df, tail) * skew if items else 0.0
        return float((seeds * t_seeds + items * t_items) / np.sqrt(seeds + items))

    def interval(self, level: float) -> tuple[float, float]:
        """Return both ends; nan where the spread is not known."""
        if not self.spread.known:
            return np.nan, np.nan
        tail = (1 - level) / 2
        return (
            self.difference - self.half_width(tail, self.skew_low),
            self.difference + self.half_width(tail, self.skew_high),
        )

    def p(self) -> float:
        """Return the two-sided p of no difference: the level at which an end reaches 0."""
        if not self.spread.known:
            return np.nan
        side = self.skew_low if self.difference > 0 else self.skew_high
        return min(1.0, 2 * self._tail(abs(self.difference), side))

    def p_equivalence(self, margin: float) -> float:
        """Return the p of two one-sided tests that the difference lies within the margin."""
        if not self.spread.known:
            return np.nan
        return max(
            self._tail(margin + self.difference, self.skew_low),
            self._tail(margin - self.difference, self.skew_high),
        )

    def _tail(self, distance: float, skew: float) -> float:
        """Return the tail that is left out by an end at ``distance``, by bisection."""
        if distance <= 0:
            return 1 - self._tail(-distance, skew) if distance else 0.5
        low, high = np.log(SMALLEST), np.log(0.5)
        if self.half_width(SMALLEST, skew) <= distance:
            return SMALLEST
        for _ in range(50):
            middle = (low + high) / 2
            wide = self.half_width(float(np.exp(middle)), skew) > distance
            low, high = (middle, high) if wide else (low, middle)
        return float(np.exp((low + high) / 2))


def _t(df: float, tail: float) -> float:
    return float(-special.ndtri(tail) if np.isinf(df) else -special.stdtrit(df, tail))


def estimate(contrast: Contrast, resamples: int, seed: int) -> Estimate:
    """Return a contrast's mean over the seeds, with all that its interval needs."""
    difference, found = float(contrast.values.mean()), spread(contrast)
    if not found.known or found.items == 0 or not resamples:
        return Estimate(difference=difference, spread=found)
    moved = resampled(contrast, resamples, seed)
    moved = moved[np.isfinite(moved)] - difference  # few items may leave a class out
    deviation = float(moved.std()) if len(moved) > 1 else 0.0
    if deviation == 0:
        return Estimate(difference=difference, spread=found)
    low, high = np.quantile(moved, [TAIL, 1 - TAIL]) / (-special.ndtri(TAIL) * deviation)
    return Estimate(
        difference=difference,
        spread=found,
        skew_low=float(np.clip(-low, 0.5, 2)),
        skew_high=float(np.clip(high, 0.5, 2)),
    )
