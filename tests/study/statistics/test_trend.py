"""A grid of doses is one contrast for each seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.paired import Paired
from gamma_nlp.study.statistics.trend import trend
from tests.support.paired_studies import from_items, from_scores, outcomes

DOSES = (0.01, 0.1, 0.5)


def grid(seed: int, slope: float, seeds: int = 6) -> dict[float, Paired]:
    rng = np.random.default_rng(seed)
    pairs = {}
    for dose in DOSES:
        base = 80 + rng.normal(size=seeds)
        gain = slope * np.log10(dose) + 0.3 * rng.normal(size=seeds)
        pairs[dose] = from_scores(base, base + gain)
    return pairs


def test_the_slope_is_the_mean_of_the_seeds_own_slopes() -> None:
    pairs = grid(0, slope=0.4)
    logs = np.log10(DOSES)
    table = np.stack([pairs[dose].differences for dose in DOSES])
    slopes = np.polyfit(logs, table, 1)[0]
    found = trend(pairs)
    expected = stats.ttest_1samp(slopes, 0)
    interval = expected.confidence_interval(0.95)
    assert found.slope == pytest.approx(slopes.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.doses == DOSES and found.seeds == 6


def test_a_straight_line_over_the_logarithm_is_found_exactly() -> None:
    base = np.array([80.0, 81.0, 79.0])
    noise = np.array([0.1, -0.1, 0.0])
    pairs = {d: from_scores(base, base + 2 + (0.7 + noise) * np.log10(d)) for d in DOSES}
    assert trend(pairs).slope == pytest.approx(0.7)


def test_order_and_a_shift_at_all_doses_change_nothing() -> None:
    pairs = grid(1, slope=0.2)
    found = trend(pairs)
    turned = trend(dict(reversed(pairs.items())))
    assert turned == found
    moved = {d: replace(p, arm_scores=p.arm_scores + 5) for d, p in pairs.items()}
    assert trend(moved).p == pytest.approx(found.p)


def test_items_take_part() -> None:
    pairs = {d: from_items(*outcomes(3, gain=g)) for d, g in zip(DOSES, (0, 0.3, 0.9), strict=True)}
    alone = trend({d: replace(p, sets=()) for d, p in pairs.items()})
    found = trend(pairs, resamples=500)
    assert found.slope == pytest.approx(alone.slope)
    assert found.high - found.low != pytest.approx(alone.high - alone.low)
    assert found.low > 0


def test_only_seeds_that_have_all_doses_count() -> None:
    pairs = grid(2, slope=0.2)
    short = pairs[0.1]
    pairs[0.1] = Paired(
        arm=short.arm,
        baseline=short.baseline,
        seeds=short.seeds[2:],
        baseline_scores=short.baseline_scores[2:],
        arm_scores=short.arm_scores[2:],
    )
    assert trend(pairs).seeds == 4
    pairs[0.1] = replace(pairs[0.1], seeds=(91, 92, 93, 94))
    with pytest.raises(GammaError, match="no seed in common"):
        trend(pairs)


def test_one_dose_and_a_dose_of_0_have_no_trend() -> None:
    pairs = grid(0, 0.1)
    with pytest.raises(GammaError, match="needs two doses or more, and there is 1"):
        trend({0.1: pairs[0.1]})
    with pytest.raises(GammaError, match="and one is 0"):
        trend({0.0: pairs[0.1], 0.5: pairs[0.5]})


def test_one_seed_has_no_interval() -> None:
    found = trend({d: from_scores([80], [81 + d]) for d in DOSES})
    assert np.isnan([found.low, found.high, found.p]).all() and found.seeds == 1
