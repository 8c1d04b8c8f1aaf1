"""Resampled items give the items' own variance, and sacrebleu's p for each seed."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from sacrebleu.significance import PairedTest

from gamma_nlp.study.statistics import items as module
from gamma_nlp.study.statistics.contrast import Contrast
from gamma_nlp.study.statistics.items import p_by_items, resampled
from gamma_nlp.study.statistics.metrics import statistic
from gamma_nlp.study.statistics.paired import Paired, PairedSet
from tests.support.paired_studies import from_items, outcomes

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


def translations(seed: int, good: float, count: int = 60) -> tuple[list[str], list[str]]:
    lines = np.random.default_rng(0).choice(WORDS, size=(count, 9))
    rng = np.random.default_rng(seed)
    guesses = np.where(rng.random(lines.shape) < good, lines, rng.choice(WORDS, lines.shape))
    return [" ".join(row) for row in guesses], [" ".join(row) for row in lines]


def bleu_pair(base: list[str], arm: list[str], references: list[str]) -> Paired:
    bleu, metric = statistic("sacrebleu"), sacrebleu.BLEU(tokenize="none")
    sums = [
        np.array([metric._extract_corpus_statistics(lines, [references])], dtype=float)
        for lines in (base, arm)
    ]
    return Paired(
        arm="all",
        baseline="none",
        seeds=(1,),
        baseline_scores=bleu.score(sums[0].sum(axis=1)),
        arm_scores=bleu.score(sums[1].sum(axis=1)),
        sets=(PairedSet(statistic=bleu, baseline_sums=sums[0], arm_sums=sums[1]),),
    )


@pytest.mark.parametrize("good", [0.8, 0.84, 0.87])
def test_p_of_a_seed_is_that_of_sacrebleu(good: float) -> None:
    base, references = translations(1, 0.8)
    arm, _ = translations(2, good)
    test = PairedTest(
        [("none", base), ("all", arm)],
        {"BLEU": sacrebleu.BLEU(tokenize="none")},
        [references],
        test_type="bs",
        n_samples=2000,
    )
    (expected,) = [result.p_value for result in test()[1]["BLEU"][1:]]
    found = p_by_items(bleu_pair(base, arm, references), resamples=2000)
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(expected, abs=0.05)


def test_arms_that_are_equal_item_by_item_do_not_differ() -> None:
    base, references = translations(1, 0.8)
    assert p_by_items(bleu_pair(base, base, references), resamples=50)[0, 0] == 1


@pytest.mark.parametrize("chunk", [2**20, 500])
def test_resampling_gives_the_variance_of_the_items(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    base, arm = outcomes(0)
    for values in (arm, arm + np.random.default_rng(0).normal(size=arm.shape)):  # few rows, many
        pair = from_items(base, values)
        moved = resampled(Contrast.of_pair(pair), 4000, seed=0)
        d = 100 * (values - base).mean(axis=0)
        assert moved.mean() == pytest.approx(d.mean(), abs=4 * d.std() / np.sqrt(200 * 4000))
        assert moved.std() == pytest.approx(d.std() / np.sqrt(200), rel=0.05)
        again = resampled(Contrast.of_pair(pair), 4000, seed=0)
        assert (again == moved).all()
        assert not (resampled(Contrast.of_pair(pair), 4000, seed=1) == moved).all()
