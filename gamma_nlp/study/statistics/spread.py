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
from scipy import stats

from gamma_nlp.study.statistics.paired import Paired, PairedSet

UNLIKELY = 0.05
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
        """Return what to expect of ``then`` seeds, after ``now`` of them."""
        return Spread(
            seeds=self.seeds * now / then,
            seeds_df=then - 1,
            items=self.items,
            items_df=self.items_df,
            rest=self.rest * now / then,
        )


def spread(pair: Paired) -> Spread:
    """Return the variances of a pair's mean difference; of one seed none is known."""
    count = len(pair.seeds)
    differences = pair.differences
    by_items = [_by_items(items) for items in pair.sets]
    share = 1 / max(len(by_items), 1) ** 2  # a score is the mean over the sets
    common = share * sum(item for item, _, _ in by_items)
    rest = share * sum(rest for _, rest, _ in by_items)
    fewest = min((items.items for items in pair.sets), default=2)
    if count < 2:
        return Spread(seeds=np.nan, seeds_df=0, items=np.nan, items_df=np.inf, rest=0, known=False)
    scores = np.abs([pair.arm_scores, pair.baseline_scores])
    rounding = ROUNDING * float(scores.max())
    constant = bool(np.ptp(differences) <= rounding)
    seeds = 0.0 if constant else float(differences.var(ddof=1)) / count
    least = float(stats.chi2.ppf(UNLIKELY, count - 1)) / (count - 1) * rest
    return Spread(
        seeds=max(seeds, least),
        seeds_df=count - 1,
        items=max(common, 0.0),
        items_df=fewest - 1 if pair.sets else np.inf,
        rest=rest,
        # Equal in every seed is no coincidence; apart by the same in every seed may be one.
        known=not constant or max(common, least) > rounding**2 or not differences.any(),
    )


def _by_items(items: PairedSet) -> tuple[float, float, int]:
    """Return the variances that one set's items cause: in common to all seeds, and the rest."""
    influence = influences(items)
    seeds, count = influence.shape
    each = influence.var(axis=1, ddof=1).mean()
    mean = influence.mean(axis=0).var(ddof=1)
    if seeds < 2:
        return 0.0, 0.0, count
    common = (seeds * mean - each) / (seeds - 1)  # mean covariance of two seeds
    rest = max(each - common, 0.0) / seeds
    return float(common) / count, float(rest) / count, count


def influences(items: PairedSet) -> np.ndarray:
    """Return how each item moves each seed's difference, (seeds, items): the jackknife's values.

    For a mean they are the items' own differences, about their mean.
    """
    count = items.items
    baseline, arm = items.baseline_sums, items.arm_sums
    whole = items.difference(baseline.sum(axis=1), arm.sum(axis=1))
    without = items.difference(
        baseline.sum(axis=1, keepdims=True) - baseline, arm.sum(axis=1, keepdims=True) - arm
    )
    return (count - 1) * (whole[:, None] - without)
