"""The variances of seeds and of items are those of the crossed design."""

from __future__ import annotations

import numpy as np
import pytest

from gamma_nlp.study.statistics.contrast import Contrast
from gamma_nlp.study.statistics.metrics import statistic
from gamma_nlp.study.statistics.paired import Paired, PairedSet
from gamma_nlp.study.statistics.spread import UNLIKELY, influences, spread
from tests.support.paired_studies import from_items, outcomes


def crossed(rng: np.random.Generator, seeds: int, items: int) -> np.ndarray:
    """Differences with standard deviations 0.2 by seed, 1 by item and 3 by the rest."""
    return (
        0.2 * rng.normal(size=(seeds, 1))
        + rng.normal(size=items)
        + 3 * rng.normal(size=(seeds, items))
    )


def test_parts_are_the_mean_squares_of_the_analysis_of_variance() -> None:
    d = crossed(np.random.default_rng(0), 6, 50)
    found = spread(Contrast.of_pair(from_items(np.zeros_like(d), d, scale=1)))
    grand, by_seed, by_item = d.mean(), d.mean(axis=1), d.mean(axis=0)
    seed_square = 50 * np.sum((by_seed - grand) ** 2) / 5
    item_square = 6 * np.sum((by_item - grand) ** 2) / 49
    rest = d - by_seed[:, None] - by_item + grand
    rest_square = np.sum(rest**2) / (5 * 49)
    assert found.seeds == pytest.approx(seed_square / 300)
    assert found.items == pytest.approx(max(0, item_square - rest_square) / 300)
    assert found.rest == pytest.approx(rest_square / 300)
    assert (found.seeds_df, found.items_df) == (5, 49)


def test_the_variance_is_right_on_the_average() -> None:
    rng = np.random.default_rng(1)
    zero = np.zeros((5, 100))
    drawn = [crossed(rng, 5, 100) for _ in range(400)]
    found = [spread(Contrast.of_pair(from_items(zero, d, scale=1))) for d in drawn]
    true_seeds, true_items = 0.04 / 5 + 9 / 500, 1 / 100
    assert np.mean([part.seeds for part in found]) == pytest.approx(true_seeds, rel=0.1)
    assert np.mean([part.items for part in found]) == pytest.approx(true_items, rel=0.1)
    assert np.var([d.mean() for d in drawn]) == pytest.approx(true_seeds + true_items, rel=0.15)


def test_a_spread_of_seeds_that_items_make_unlikely_is_not_believed() -> None:
    d = crossed(np.random.default_rng(2), 3, 200)
    d += 0.7 - d.mean(axis=1, keepdims=True)  # by accident all seeds agree
    found = spread(Contrast.of_pair(from_items(np.zeros_like(d), d, scale=1)))
    assert 0 < found.seeds < found.rest
    assert found.seeds == pytest.approx(-np.log(1 - UNLIKELY) * found.rest)  # chi2 of 2, halved


def test_influences_of_a_mean_are_the_differences() -> None:
    base, arm = outcomes(0)
    contrast = Contrast.of_pair(from_items(base, arm))
    found = influences(contrast, contrast.sets[0])
    d = 100 * (arm - base)
    assert found == pytest.approx(d - d.mean(axis=1, keepdims=True))


def test_influences_of_f1_foretell_what_weights_do() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=300)
    f1 = statistic("f1")
    flip = [np.where(rng.random(300) < 0.2, 1 - label, label) for _ in range(4)]
    sums = np.stack([f1.item_sums([label, guess]) for guess in flip])
    pair = Paired(
        arm="all",
        baseline="none",
        seeds=(1, 2),
        baseline_scores=f1.score(sums[:2].sum(axis=1)),
        arm_scores=f1.score(sums[2:].sum(axis=1)),
        sets=(PairedSet(statistic=f1, baseline_sums=sums[:2], arm_sums=sums[2:]),),
    )
    contrast = Contrast.of_pair(pair)
    (one,) = contrast.sets
    weights = 1 + 0.01 * rng.normal(size=300)
    moved = contrast.of_sums(one, np.einsum("i,csik->csk", weights, one.sums)) - contrast.values
    foretold = influences(contrast, one) @ (weights - 1) / 300
    assert moved == pytest.approx(foretold, abs=3e-5)
    assert np.abs(moved).max() > 1e-4
