"""The number of seeds is that of a power analysis, and says when no number would do."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.compare import sign_flip
from gamma_nlp.study.statistics.interval import Estimate
from gamma_nlp.study.statistics.power import Plan, more_seeds, needed_items, needed_seeds
from gamma_nlp.study.statistics.spread import Spread

ALONE = Plan(difference_level=0.05, equivalence_level=0.05, margin=None)
HALF = Plan(difference_level=0.05, equivalence_level=0.05, margin=0.5)


def estimate(difference: float, deviation: float, seeds: int, items: float = 0.0) -> Estimate:
    spread = Spread(
        seeds=deviation**2 / seeds, seeds_df=seeds - 1, items=items, items_df=999, rest=0
    )
    return Estimate(difference=difference, spread=spread)


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (2, 7), (3, 7), (6, 8), (7, 9)])
def test_seeds_for_an_exact_sign_flip_test(comparisons: int, seeds: int) -> None:
    assert needed_seeds(comparisons) == seeds
    assert sign_flip(np.ones(seeds)) <= 0.05 / comparisons < sign_flip(np.ones(seeds - 1))


def test_a_strict_level_needs_more_seeds() -> None:
    assert needed_seeds(1, level=0.01) == 8
    with pytest.raises(GammaError, match="comparisons is 0"):
        needed_seeds(0)
    with pytest.raises(GammaError, match="level is 0"):
        needed_seeds(1, level=0)


@pytest.mark.parametrize("seeds", [4, 8, 20])
@pytest.mark.parametrize("difference", [0.0, 0.3, 1.0])
def test_the_chance_without_items_is_the_power_of_a_paired_t_test(
    seeds: int, difference: float
) -> None:
    # On the right side: a decision on the wrong one is none to plan for.
    expected = TTestPower().power(difference / 0.7, seeds, 0.025, alternative="larger")
    assert ALONE.chance(estimate(difference, 0.7, seeds)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("difference", "items"), [(0.0, 0.0), (0.2, 0.01), (0.9, 0.02)])
def test_the_chance_is_the_share_of_studies_that_decide(difference: float, items: float) -> None:
    rng = np.random.default_rng(0)
    seeds, deviation = 12, 0.7
    decided = []
    for _ in range(600):
        seen = difference + np.sqrt(items) * rng.normal() + deviation * rng.normal(size=seeds)
        found = estimate(float(seen.mean()), float(seen.std(ddof=1)), seeds, items)
        decided.append(found.p() < 0.05 or found.p_equivalence(0.5) < 0.05)
    expected = HALF.chance(estimate(difference, deviation, seeds, items))
    assert np.mean(decided) == pytest.approx(expected, abs=0.06)


def test_more_seeds_reach_four_fifths_and_one_fewer_does_not() -> None:
    found = estimate(0.1, 0.8, 5)
    more = more_seeds(found, 5, HALF)
    assert more is not None and more > 5
    for then, enough in ((5 + more, True), (4 + more, False)):
        spread = found.spread.with_seeds(5, then)
        chance = HALF.chance(Estimate(difference=0.1, spread=spread))
        assert (chance >= 0.8) is enough


def test_a_larger_difference_needs_fewer_seeds_and_a_larger_spread_more() -> None:
    needed = [more_seeds(estimate(d, 1.0, 5), 5, ALONE) for d in (0.5, 0.8, 1.2)]
    assert needed == sorted(needed, key=lambda n: -(n or 0))
    wider = [more_seeds(estimate(0.1, s, 5), 5, HALF) for s in (0.5, 1.0, 2.0)]
    assert wider == sorted(wider, key=lambda n: n or 0)


def test_where_items_limit_no_number_of_seeds_decides_and_items_would() -> None:
    found = estimate(0.1, 0.3, 5, items=0.3)
    assert more_seeds(found, 5, HALF) is None
    items = needed_items(found, 200, 5, HALF)
    assert items is not None and items > 400
    spread = found.spread.with_seeds(5, 1_000)
    enough = Spread(
        seeds=spread.seeds, seeds_df=999, items=0.3 * 200 / items, items_df=items - 1, rest=0
    )
    assert HALF.chance(Estimate(difference=0.1, spread=enough)) >= 0.8


@pytest.mark.parametrize("found", [0.5, 0.8])
def test_beyond_the_margin_only_a_difference_can_decide(found: float) -> None:
    guess = estimate(found, 1.0, 5)
    assert HALF.likely(guess) == ALONE.likely(guess) == pytest.approx(np.hypot(found, 0.2**0.5))
    assert HALF.likely(estimate(0.3, 1.0, 5)) == 0.3
    more, alone = more_seeds(guess, 5, HALF), more_seeds(guess, 5, ALONE)
    assert more is not None and alone is not None and more <= alone <= 2 * more
