"""How far a difference would move with other seeds, and with other items.

Every seed and every arm sees the same items: seeds and items are crossed. To first order the
difference of seed s is a mean over items, d(s, i) = difference + seed(s) + item(i) + rest(s, i), so

    variance of the mean difference = seed / n + item / m + rest / (n m).

The spread of the seeds' differences holds the first and the last term. The middle one is what two
seeds have in common: the covariance, over items, of d(s, i) and d(t, i).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from gamma_nlp.study.statistics.contrast import Contrast, ContrastSet

UNLIKELY = 0.02
"""A spread over seeds that the items' own noise undercuts more rarely than this is not believed."""
ROUNDING = 1e-10


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Variances of the mean difference, each with its degrees of freedom.

    Attributes:
        seeds: By the choice of seeds, what items add within a seed included.
        items: By the choice of items, in common to all seeds; 0 without items.
        rest: The part of ``seeds`` that a seed's finite number of items explains.
        known: Whether the spread can be told: not where all seeds differ by exactly the same.
    """

    seeds: float
    seeds_df: float
    items: float
    items_df: float
    rest: float
    known: bool = True

    @property
    def variance(self) -> float:
        """Of the mean difference."""
        return self.seeds + self.items

    def with_seeds(self, now: int, then: int) -> Spread:
        """Return what to expect of ``then`` seeds, after ``now`` of them.

        A variance from few seeds lies below the truth more often than above it: by its median, so
        that a plan is too short as often as too long.
        """
        usual = special.chdtri(now - 1, 0.5) / (now - 1)
        return Spread(
            seeds=self.seeds * now / then / usual,
            seeds_df=then - 1,
            items=self.items,
            items_df=self.items_df,
            rest=self.rest * now / then / usual,
        )


def spread(contrast: Contrast) -> Spread:
    """Return the variances of a contrast's mean; of one seed none is known."""
    count, values = len(contrast.seeds), contrast.values
    if count < 2:
        return Spread(
            seeds=np.nan, seeds_df=0, items=np.nan, items_df=np.inf, rest=np.nan, known=False
        )
    by_items = [_by_items(contrast, one) for one in contrast.sets]
    share = 1 / max(len(by_items), 1) ** 2  # a score is the mean over the sets
    common = share * sum(common for common, _ in by_items)
    rest = share * sum(rest for _, rest in by_items)
    rounding = ROUNDING * float(np.abs(contrast.weights) @ np.abs(contrast.scores).max(axis=1))
    constant = bool(np.ptp(values) <= rounding)
    seeds = 0.0 if constant else float(values.var(ddof=1)) / count
    least = float(special.chdtri(count - 1, 1 - UNLIKELY)) / (count - 1) * rest
    return Spread(
        seeds=max(seeds, least),
        seeds_df=count - 1,
        items=max(common, 0.0),
        items_df=min(one.items for one in contrast.sets) - 1 if contrast.sets else np.inf,
        rest=rest,
        # Equal in every seed is no coincidence; apart by the same in every seed may be one.
        known=not constant or max(common, least) > rounding**2 or not values.any(),
    )


def _by_items(contrast: Contrast, one: ContrastSet) -> tuple[float, float]:
    """Return the variances that one set's items cause: in common to all seeds, and the rest."""
    influence = influences(contrast, one)
    seeds, items = influence.shape
    each = influence.var(axis=1, ddof=1).mean()
    common = (seeds * influence.mean(axis=0).var(ddof=1) - each) / (seeds - 1)
    # ``common`` is the mean covariance of two seeds over the items; it may come out below 0.
    return float(common) / items, float(max(each - common, 0.0)) / (seeds * items)


def influences(contrast: Contrast, one: ContrastSet) -> np.ndarray:
    """Return how each item moves each seed's contrast, (seeds, items): the jackknife's values.

    For a mean they are the items' own differences, about their mean.
    """
    total = one.sums.sum(axis=2)
    without = contrast.of_sums(one, total[:, :, None] - one.sums)
    moved = contrast.of_sums(one, total)[:, None] - without
    return np.asarray((one.items - 1) * np.nan_to_num(moved))
