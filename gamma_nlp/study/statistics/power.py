"""How many seeds a study needs: before it starts, and after it ended undecided."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.interval import Estimate

POWER = 0.8
MOST_SEEDS = 1_000
MOST_ITEMS = 10_000_000


def needed_seeds(comparisons: int, level: float = 0.05) -> int:
    """Return the fewest seeds with which an exact sign-flip test can find anything.

    The smallest p of n paired seeds is 2 / 2^n, and Holm's first step asks for level / comparisons.

    >>> needed_seeds(1), needed_seeds(6)
    (6, 8)
    """
    if comparisons < 1:
        raise GammaError(f"comparisons is {comparisons}, expected 1 or more")
    if not 0 < level < 1:
        raise GammaError(f"level is {level}, expected a number between 0 and 1")
    seeds = 1
    while 2 / 2**seeds > level / comparisons:
        seeds += 1
    return seeds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison has to pass: the tail of each test after Holm, and the margin."""

    difference_level: float
    equivalence_level: float
    margin: float | None

    def likely(self, estimate: Estimate) -> float:
        """Return the difference to plan for.

        Within the margin the one found. Elsewhere only a test of difference can decide, and a
        study that is undecided has found too small a one: its root mean square then, the noise
        included.
        """
        if self.margin is not None and abs(estimate.difference) < self.margin:
            return estimate.difference
        return float(np.sqrt(estimate.difference**2 + estimate.spread.variance))

    def chance(self, estimate: Estimate) -> float:
        """Return the chance of a right decision, either way, if the estimate is the truth."""
        spread = estimate.spread
        if spread.variance == 0:
            return 1.0
        deviation = float(np.sqrt(spread.variance))
        df = spread.variance**2 / (
            spread.seeds**2 / spread.seeds_df + spread.items**2 / min(spread.items_df, 1e9)
        )

        def passes(distance: float, tail: float) -> float:
            """Return the chance that an end stays clear of a value ``distance`` from the truth."""
            reach = Estimate(difference=0.0, spread=spread).half_width(tail, 1.0) / deviation
            missed = special.nctdtr(df, distance / deviation, reach)
            return 1 - float(missed) if np.isfinite(missed) else float(distance > 0)

        found = passes(abs(estimate.difference), self.difference_level / 2)
        if self.margin is None:
            return found
        near = passes(self.margin - abs(estimate.difference), self.equivalence_level)
        far = passes(self.margin + abs(estimate.difference), self.equivalence_level)
        # The tests pass together only where both have passed: they leave nothing between them.
        return min(1.0, found + max(0.0, near + far - 1))


def more_seeds(estimate: Estimate, seeds: int, plan: Plan) -> int | None:
    """Return how many more seeds decide in 80 %, if the estimate is right.

    None: no number below a thousand does.
    """
    guess = replace(estimate, difference=plan.likely(estimate))

    def chance(then: int) -> float:
        return plan.chance(replace(guess, spread=guess.spread.with_seeds(seeds, then)))

    if chance(MOST_SEEDS) < POWER:
        return None
    low, high = seeds, seeds + 1
    while chance(high) < POWER:
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high - seeds


def needed_items(estimate: Estimate, items: int, seeds: int, plan: Plan) -> int | None:
    """Return how many items decide in 80 % with a thousand seeds; None: no number does."""
    guess = replace(estimate, difference=plan.likely(estimate))

    def chance(then: int) -> float:
        spread = guess.spread.with_seeds(seeds, MOST_SEEDS)
        fewer = replace(spread, items=spread.items * items / then, items_df=then - 1)
        return plan.chance(replace(guess, spread=fewer))

    if chance(MOST_ITEMS) < POWER:
        return None
    low, high = items, items + 1
    while chance(high) < POWER:
        low, high = high, min(2 * high, MOST_ITEMS)
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high
