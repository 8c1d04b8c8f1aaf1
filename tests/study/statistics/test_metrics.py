"""A statistic scores sums over items as the library that papers quote scores the items."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.metrics import STATISTICS, statistic
from gamma_nlp.tasks.glue import metrics as glue

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


def corpus(seed: int, sentences: int = 40, longest: int = 12) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    references = [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(sentences)]
    hypotheses = []
    for line in references:
        kept = [word if rng.random() < 0.8 else rng.choice(WORDS) for word in line.split()]
        hypotheses.append(" ".join(kept[: rng.integers(1, len(kept) + 1)]))
    return hypotheses, references


def counts(hypotheses: list[str], references: list[str]) -> np.ndarray:
    bleu = sacrebleu.BLEU(tokenize="none")
    return np.array(bleu._extract_corpus_statistics(hypotheses, [references]))


@pytest.mark.parametrize("longest", [3, 4, 12])
@pytest.mark.parametrize(("name", "smooth"), [("bleu", "none"), ("sacrebleu", "exp")])
def test_bleu_from_counts_is_that_of_sacrebleu(name: str, smooth: str, longest: int) -> None:
    for seed in range(20):
        hypotheses, references = corpus(seed, sentences=1 + seed, longest=longest)
        expected = sacrebleu.BLEU(tokenize="none", smooth_method=smooth).corpus_score(
            hypotheses, [references]
        )
        found = statistic(name).of_items(counts(hypotheses, references))
        assert found == pytest.approx(expected.score, abs=1e-9)


def test_bleu_of_empty_and_of_foreign_text_is_0() -> None:
    foreign = counts(["x y z x y"], ["a b c d e"])
    for rows in (foreign, np.zeros((3, 10))):
        assert statistic("bleu").of_items(rows) == 0
        assert statistic("sacrebleu").of_items(rows) == 0


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_glue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(2, size=(2, 50))
    x, y = rng.normal(size=50), 1e6 + rng.normal(size=50)
    assert statistic("f1").of_items(label, prediction) == pytest.approx(glue.f1(prediction, label))
    assert statistic("matthews").of_items(label, prediction) == pytest.approx(
        glue.matthews_correlation(prediction, label)
    )
    assert statistic("pearson").of_items(y, x + y) == pytest.approx(glue.pearson(x + y, y))
    assert statistic("mean").of_items(x) == pytest.approx(x.mean())
    assert statistic("ratio").of_items(x, y) == pytest.approx(x.sum() / y.sum())


@pytest.mark.parametrize("label", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("prediction", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
def test_constant_guesses_score_as_glue_says(label: list[int], prediction: list[int]) -> None:
    x, y = np.array(prediction), np.array(label)
    assert statistic("f1").of_items(y, x) == pytest.approx(glue.f1(x, y))
    assert statistic("matthews").of_items(y, x) == pytest.approx(glue.matthews_correlation(x, y))


def test_correlation_of_a_constant_is_not_a_number() -> None:
    assert np.isnan(statistic("pearson").of_items(np.arange(4.0), np.full(4, 0.1)))


@pytest.mark.parametrize("name", STATISTICS)
def test_an_item_of_weight_two_counts_as_two_items(name: str) -> None:
    rng = np.random.default_rng(0)
    if "bleu" in name:
        columns = [counts(*corpus(3))]
    elif name in ("f1", "matthews"):
        columns = list(rng.integers(2, size=(2, 40)))
    else:
        columns = list(rng.uniform(1, 2, size=(len(STATISTICS[name].columns), 40)))
    one = statistic(name)
    sums = one.item_sums(columns)
    weights = rng.integers(0, 4, size=(7, 40))
    found = one.score(weights @ sums)
    for row, score in zip(weights, found, strict=True):
        repeated = [np.repeat(column, row, axis=0) for column in columns]
        assert score == pytest.approx(one.of_items(*repeated), abs=1e-9)
    stacked = one.score((weights @ sums).reshape(7, 1, -1))
    assert stacked.shape == (7, 1)


def test_faults_of_columns_are_named() -> None:
    with pytest.raises(GammaError, match=r"no statistic 'blue'; did you mean 'bleu'"):
        statistic("blue")
    with pytest.raises(GammaError, match=r"f1 takes the columns 'label', 'prediction', and 1"):
        statistic("f1").item_sums([np.zeros(3)])
    with pytest.raises(GammaError, match=r"column 'counts' has shape \(3,\), expected \(items, 10"):
        statistic("bleu").item_sums([np.zeros(3)])
    with pytest.raises(GammaError, match=r"mean: item 1 of 'value' is not a number"):
        statistic("mean").item_sums([np.array([0, np.nan])])
