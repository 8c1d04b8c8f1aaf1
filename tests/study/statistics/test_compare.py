"""One arm against its baseline: known values, symmetries, and verdicts that never contradict."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.compare import compare, sign_flip
from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.holm import holm
from gamma_nlp.study.statistics.paired import Paired
from tests.support.paired_studies import from_items, from_scores, outcomes

NUMBERS = ("difference", "low", "high", "t_low", "t_high", "deviation", "p", "p_equivalence")


@pytest.fixture(autouse=True, scope="module")
def _little_garbage() -> Iterator[None]:
    gc.freeze()  # Holm's correction in statsmodels collects it at every call
    yield
    gc.unfreeze()


def one(pair: Paired, **options: Any) -> Comparison:
    given = {"margin": 1.0, "higher_is_better": True, "resamples": 500, "unit": "points"}
    (found,) = compare([pair], **(given | options))
    return found


def scores(seed: int, seeds: int = 6, gain: float = 0.3) -> Paired:
    rng = np.random.default_rng(seed)
    baseline = 80 + rng.normal(size=seeds)
    return from_scores(baseline, baseline + gain + 0.5 * rng.normal(size=seeds))


@pytest.mark.parametrize("seed", range(4))
def test_without_items_all_is_the_paired_t_test(seed: int) -> None:
    pair = scores(seed)
    found = one(pair)
    expected = stats.ttest_rel(pair.arm_scores, pair.baseline_scores)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.t_low, found.t_high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    equivalence = ttost_paired(pair.arm_scores, pair.baseline_scores, -1.0, 1.0)[0]
    assert found.p_equivalence == pytest.approx(equivalence, rel=1e-6)
    assert found.deviation == pytest.approx(pair.differences.std(ddof=1))
    r = stats.pearsonr(pair.arm_scores, pair.baseline_scores).statistic
    assert found.correlation == pytest.approx(r)


def test_with_seeds_that_do_not_matter_all_is_the_items_z_test() -> None:
    base, arm = outcomes(0, seeds=1, items=400, gain=0.2)
    found = one(from_items(np.repeat(base, 4, axis=0), np.repeat(arm, 4, axis=0)), resamples=4000)
    expected = stats.ttest_rel(100 * arm[0], 100 * base[0])
    assert found.deviation == 0
    assert found.p == pytest.approx(expected.pvalue, rel=0.3)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_items_widen_the_interval_of_the_seeds(seed: int) -> None:
    found = one(from_items(*outcomes(seed, seeds=8, items=150)))
    assert found.items == 150
    assert found.low <= found.t_low + 1e-9 and found.t_high <= found.high + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_order_of_seeds_and_of_items_is_irrelevant(seed: int) -> None:
    base, arm = outcomes(seed)
    rng = np.random.default_rng(seed)
    seeds, items = rng.permutation(len(base)), rng.permutation(base.shape[1])
    first = one(from_items(base, arm))
    second = one(from_items(base[seeds], arm[seeds]))
    third = one(from_items(base[:, items], arm[:, items]))
    for name in NUMBERS:
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-6)
        assert getattr(third, name) == pytest.approx(getattr(first, name), rel=1e-6)


def test_exchanging_the_arms_changes_the_sign() -> None:
    base, arm = outcomes(1, gain=0.4)
    found, turned = one(from_items(base, arm)), one(from_items(arm, base))
    assert turned.difference == pytest.approx(-found.difference)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=0.1)
    assert turned.p == pytest.approx(found.p, rel=0.05)
    assert {found.verdict, turned.verdict} <= {Verdict.BETTER, Verdict.WORSE}
    assert found.verdict is not turned.verdict


def test_a_shift_of_both_arms_changes_nothing_and_a_scale_scales() -> None:
    pair = scores(0)
    found = one(pair)
    moved = replace(pair, arm_scores=pair.arm_scores + 7, baseline_scores=pair.baseline_scores + 7)
    scaled = replace(pair, arm_scores=3 * pair.arm_scores, baseline_scores=3 * pair.baseline_scores)
    for name in NUMBERS:
        value = getattr(found, name)
        assert getattr(one(moved), name) == pytest.approx(value, rel=1e-6)
        factor = 1 if name.startswith("p") else 3
        assert getattr(one(scaled, margin=3.0), name) == pytest.approx(factor * value, rel=1e-6)


def test_lower_is_better_turns_the_word_alone() -> None:
    pair = scores(0, seeds=8, gain=2)
    assert one(pair).verdict is Verdict.BETTER
    assert one(pair, higher_is_better=False).verdict is Verdict.WORSE


@pytest.mark.parametrize("margin", [None, 0.5, 5.0])
def test_verdict_interval_and_p_never_contradict(margin: float | None) -> None:
    for seed in range(60):
        items = from_items(*outcomes(seed, seeds=2 + seed % 7, gain=0.1 * (seed % 5), items=60))
        pair = items if seed % 2 else replace(items, sets=())
        found = one(pair, margin=margin, resamples=200)
        leaves_out_0 = found.low > 0 or found.high < 0
        assert leaves_out_0 == (found.p < 0.05)
        assert (found.verdict in (Verdict.BETTER, Verdict.WORSE)) == leaves_out_0
        if found.verdict is Verdict.BETTER:
            assert found.low > 0
        if found.verdict is Verdict.NO_DIFFERENCE:
            assert margin is not None and found.bound == margin and abs(found.difference) < margin
        else:
            assert found.bound == pytest.approx(max(abs(found.low), abs(found.high)))
        if found.verdict is not Verdict.UNDECIDED:
            assert found.more_seeds is None and found.needed_items is None
        if margin is None:
            assert found.verdict is not Verdict.NO_DIFFERENCE and np.isnan(found.p_equivalence)
        assert str(found.verdict).split("_")[0] in found.sentence


def test_holm_is_over_all_pairs_of_a_call() -> None:
    spread = np.array([-1.0, 0.2, 1.1, -0.3, 0.6, -0.6])
    gains = [0.9, 0.1, 0.95, 2.0, 0.0, 0.3]  # of which two pass alone, and not among six
    pairs = [
        from_scores(np.full(6, 80.0), 80 + gain + 0.8 * spread, name=f"arm {gain}")
        for gain in gains
    ]
    found = compare(pairs, margin=1.0, higher_is_better=True)
    raw = [row.p for row in found]
    assert [row.p_holm for row in found] == pytest.approx(multipletests(raw, method="holm")[1])
    alike = multipletests([row.p_equivalence for row in found], method="holm")[1]
    assert [row.p_equivalence_holm for row in found] == pytest.approx(alike)
    held = [row for row in found if row.p < 0.05 <= row.p_holm]
    assert held and all(row.verdict is not Verdict.BETTER for row in held)
    assert (
        "by itself it would be a difference, but one of 6 may look so by chance" in held[0].sentence
    )


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_that_of_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).uniform(size=1 + seed) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = holm([*p, np.nan])
    assert with_gap[:-1] == pytest.approx(holm(p)) and np.isnan(with_gap[-1])


def test_sign_flips_are_all_counted() -> None:
    differences = np.array([0.3, 0.1, -0.05, 0.4, 0.2])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    means = np.abs(differences @ signs)
    expected = np.mean(means >= abs(differences.sum()) - 1e-12)
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip(np.arange(1.0, 7)) == pytest.approx(2 / 2**6)
    assert sign_flip(np.arange(1.0, 17)) == pytest.approx(1e-4, abs=2e-4)  # a sample of 2^16
    assert sign_flip(np.array([3.0])) == 1


def test_one_seed_has_no_interval_and_says_so() -> None:
    found = one(from_items(*outcomes(0, seeds=1)))
    assert found.verdict is Verdict.UNDECIDED
    assert np.isnan([found.low, found.high, found.p, found.p_holm, found.deviation]).all()
    assert found.more_seeds == 5 and found.correlation is None
    assert "one seed cannot tell a difference from chance" in found.sentence


def test_one_seed_of_one_arm_is_no_comparison_for_holm() -> None:
    sure = scores(0, seeds=8, gain=2)
    found = compare([sure, from_scores([1], [2])], margin=None, higher_is_better=True)
    assert found[0].p_holm == found[0].p and np.isnan(found[1].p_holm)


@pytest.mark.parametrize("items", [True, False])
def test_arms_equal_in_every_bit_do_not_differ(items: bool) -> None:
    base, _ = outcomes(0)
    pair = from_items(base, base) if items else from_scores(base.mean(1), base.mean(1))
    found = one(pair)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.verdict is Verdict.NO_DIFFERENCE
    assert found.sentence == "no difference of all from none: equal in all 5 seeds"
    open_end = one(pair, margin=None)
    assert open_end.verdict is Verdict.UNDECIDED and "equals none in all 5" in open_end.sentence


@pytest.mark.parametrize(("seeds", "verdict"), [(5, Verdict.UNDECIDED), (6, Verdict.BETTER)])
def test_seeds_that_all_differ_by_the_same_are_judged_by_their_number(
    seeds: int, verdict: Verdict
) -> None:
    baseline = 80 + 0.1 * np.arange(seeds)
    found = one(from_scores(baseline, baseline + 2.3))
    assert np.isnan(found.low) and found.p == pytest.approx(2 / 2**seeds)
    assert found.verdict is verdict
    assert found.more_seeds == (1 if verdict is Verdict.UNDECIDED else None)
    assert "nan" not in found.sentence and f"all {seeds} seeds" in found.sentence


def test_ties_of_all_seeds_keep_the_items_noise() -> None:
    """Three seeds, each with one item gained and another lost: no spread, but no certainty."""
    base = np.zeros((3, 300))
    arm = base.copy()
    for seed in range(3):
        base[seed, 10 * seed] = arm[seed, 10 * seed + 5] = 1
    found = one(from_items(base, arm), margin=0.1)
    assert found.deviation == 0 and found.low < 0 < found.high
    assert found.verdict is Verdict.UNDECIDED


def test_a_small_difference_beyond_doubt_is_said_to_be_small() -> None:
    baseline = 80 + np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    found = one(from_scores(baseline, baseline + 0.3 + 0.01 * np.array([1, -1, 0, 1, -1, 0])))
    assert found.verdict is Verdict.BETTER
    assert found.sentence.endswith("yet by less than 1 point, the smallest difference that matters")


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"margin": np.nan}, {"level": 1.0}])
def test_margins_and_levels_that_are_none_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(GammaError, match="expected"):
        one(scores(0), **options)


def test_no_pairs_give_no_rows() -> None:
    assert compare([], margin=1.0, higher_is_better=True) == []


def test_two_sets_count_as_their_mean() -> None:
    first, second = (from_items(*outcomes(seed)) for seed in (0, 1))
    both = replace(
        first,
        baseline_scores=(first.baseline_scores + second.baseline_scores) / 2,
        arm_scores=(first.arm_scores + second.arm_scores) / 2,
        sets=(*first.sets, *second.sets),
    )
    found = one(both)
    assert found.items == 400
    assert found.difference == pytest.approx((one(first).difference + one(second).difference) / 2)


def test_items_that_come_in_groups_count_as_groups() -> None:
    """Every item four times over: the interval of the groups is that of the single items."""
    base, arm = outcomes(0)
    arm = np.maximum(arm, np.random.default_rng(0).random(200) < 0.2)  # the same in all seeds
    single = from_items(base, arm)
    fourfold = from_items(np.repeat(base, 4, axis=1), np.repeat(arm, 4, axis=1))
    documents = np.repeat(np.arange(200), 4)
    grouped = replace(fourfold, sets=(fourfold.sets[0].by_group(documents),))
    expected, found, narrow = one(single), one(grouped), one(fourfold)
    assert found.items == 200
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)
    assert narrow.high - narrow.low < found.high - found.low
    with pytest.raises(GammaError, match=r"groups of shape \(3,\) for 800 items"):
        fourfold.sets[0].by_group(np.arange(3))
