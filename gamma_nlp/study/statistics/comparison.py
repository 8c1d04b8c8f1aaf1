"""What a study says about one arm: the numbers of its row, and one verdict."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What a study says about one arm; no two of them can both be said."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no_difference"
    """As large as the margin: both one-sided tests pass."""
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against its baseline; arm minus baseline, in shown units.

    Attributes:
        arm, baseline: Their names.
        seeds, items: How many of each; no items: the interval is over seeds alone.
        difference: Mean over the seeds.
        low, high: Its interval over seeds and items; nan where none can be told.
        t_low, t_high: The t interval over paired seeds, as if the items were all there are.
        deviation: Standard deviation of the seeds' differences; nan with one seed.
        correlation: Of the two arms over the seeds; None where either does not vary.
        p: Of no difference, over seeds and items: below 1 - level where the interval leaves out 0.
        p_holm: After Holm over all comparisons; the verdict's.
        p_sign_flip: Exact sign-flip test over the paired seeds.
        p_equivalence: That the difference reaches the margin; nan without a margin.
        p_equivalence_holm: After Holm; the verdict's.
        verdict: In one word.
        bound: What the difference does not exceed: the margin where the verdict says so, else the
            larger end of the interval.
        more_seeds: Undecided: about how many more would decide in 80 %, if the estimates are
            right. None: no number would.
        needed_items: Undecided for want of items: about how many would be needed, at least.
        sentence: The verdict in words.
    """

    arm: str
    baseline: str
    seeds: int
    items: int
    difference: float
    low: float
    high: float
    t_low: float
    t_high: float
    deviation: float
    correlation: float | None
    p: float
    p_holm: float
    p_sign_flip: float
    p_equivalence: float
    p_equivalence_holm: float
    verdict: Verdict
    bound: float
    more_seeds: int | None
    needed_items: int | None
    sentence: str
