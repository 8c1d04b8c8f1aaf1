"""Arms against their baselines: every number of the table, and one verdict each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.contrast import Contrast
from gamma_nlp.study.statistics.holm import holm
from gamma_nlp.study.statistics.interval import Estimate, estimate
from gamma_nlp.study.statistics.paired import Paired
from gamma_nlp.study.statistics.power import Plan, more_seeds, needed_items, needed_seeds
from gamma_nlp.study.statistics.sentence import sentence

EXACT_SEEDS = 14
"""All 2^n signs up to so many seeds; beyond, a sample of them."""
SIGNS = 9_999


def compare(
    pairs: Sequence[Paired],
    *,
    margin: float | None,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    unit: str = "",
) -> list[Comparison]:
    """Return a comparison of each pair; Holm is over all pairs of one call.

    Args:
        pairs: Arms with their baselines.
        margin: The smallest difference that matters, in shown units, fixed before the runs; None:
            no verdict says that there is no difference.
        higher_is_better: Whether a larger score is the better one.
        level: Of the intervals; 1 - level is that of the tests.
        resamples: Draws of the items.
        seed: Of these draws.
        unit: What the scores count, for the sentences, such as ``points``.

    Raises:
        GammaError: The margin or the level is no such thing.
    """
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise GammaError(f"the smallest difference that matters is {margin}, expected above 0")
    if not 0.5 <= level < 1:
        raise GammaError(f"level is {level}, expected from 0.5 to below 1, such as 0.95")
    estimates = [estimate(Contrast.of_pair(pair), resamples, seed) for pair in pairs]
    flips = [sign_flip(pair.differences) for pair in pairs]
    p = [_p(found, flip) for found, flip in zip(estimates, flips, strict=True)]
    alike = [_p_equivalence(pair, e, margin) for pair, e in zip(pairs, estimates, strict=True)]
    p_holm, alike_holm = holm(p), holm(alike)
    alpha = 1 - level
    plan = Plan(
        difference_level=alpha / max(1, sum(not value <= alpha for value in p_holm)),
        equivalence_level=alpha / max(1, sum(not value <= alpha for value in alike_holm)),
        margin=margin,
    )
    found = []
    for number, (pair, guess) in enumerate(zip(pairs, estimates, strict=True)):
        low, high = guess.interval(level)
        count, deviation = len(pair.seeds), _deviation(pair.differences)
        half = deviation * float(stats.t.ppf((1 + level) / 2, max(count - 1, 1)) / np.sqrt(count))
        verdict = _verdict(guess, p_holm[number], alike_holm[number], alpha, higher_is_better)
        seeds_more, items_needed = None, None
        if verdict is Verdict.UNDECIDED:
            seeds_more, items_needed = _remedy(pair, guess, plan, len(pairs), alpha)
        comparison = Comparison(
            arm=pair.arm,
            baseline=pair.baseline,
            seeds=count,
            items=pair.items,
            difference=guess.difference,
            low=low,
            high=high,
            t_low=guess.difference - half,
            t_high=guess.difference + half,
            deviation=deviation,
            correlation=_correlation(pair),
            p=p[number],
            p_holm=p_holm[number],
            p_sign_flip=flips[number],
            p_equivalence=alike[number],
            p_equivalence_holm=alike_holm[number],
            verdict=verdict,
            bound=_bound(verdict, margin, low, high),
            more_seeds=seeds_more,
            needed_items=items_needed,
            sentence="",
        )
        found.append(comparison)
    return [replace(one, sentence=sentence(one, len(pairs), margin, level, unit)) for one in found]


def sign_flip(differences: np.ndarray) -> float:
    """Return the p of the sign-flip test over paired seeds: exact up to 14 seeds."""
    if len(differences) < 2:
        return 1.0  # one of two signs is as far out, whatever it is
    found = stats.permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        lambda x, axis: np.abs(x.mean(axis=axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if len(differences) <= EXACT_SEEDS else SIGNS,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _p(found: Estimate, flip: float) -> float:
    if found.spread.known:
        return found.p()
    # All seeds differ by the same: only their number says anything.
    return flip if found.spread.seeds_df else np.nan


def _p_equivalence(pair: Paired, found: Estimate, margin: float | None) -> float:
    if margin is None or len(pair.seeds) < 2:
        return np.nan
    if found.spread.known:
        return found.p_equivalence(margin)
    return 0.5 ** len(pair.seeds) if abs(found.difference) < margin else 1.0


def _verdict(
    found: Estimate, p: float, p_alike: float, alpha: float, higher_is_better: bool
) -> Verdict:
    if p < alpha:
        return Verdict.BETTER if (found.difference > 0) == higher_is_better else Verdict.WORSE
    return Verdict.NO_DIFFERENCE if p_alike < alpha else Verdict.UNDECIDED


def _remedy(
    pair: Paired, found: Estimate, plan: Plan, comparisons: int, alpha: float
) -> tuple[int | None, int | None]:
    """Return how many more seeds would decide, or else how many items."""
    count = len(pair.seeds)
    if not found.spread.known:
        return max(1, needed_seeds(comparisons, alpha) - count), None
    more = more_seeds(found, count, plan)
    if more is not None or not pair.sets:
        return more, None
    return None, needed_items(found, pair.items, count, plan)


def _bound(verdict: Verdict, margin: float | None, low: float, high: float) -> float:
    if verdict is Verdict.NO_DIFFERENCE and margin is not None:
        return margin
    return max(abs(low), abs(high))


def _deviation(differences: np.ndarray) -> float:
    return float(differences.std(ddof=1)) if len(differences) > 1 else np.nan


def _correlation(pair: Paired) -> float | None:
    if len(pair.seeds) < 2 or not np.ptp(pair.arm_scores) or not np.ptp(pair.baseline_scores):
        return None
    return float(np.corrcoef(pair.arm_scores, pair.baseline_scores)[0, 1])
