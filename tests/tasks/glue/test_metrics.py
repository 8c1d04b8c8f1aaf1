"""GLUE's scores, against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamma_nlp import GammaError
from gamma_nlp.tasks.glue.metrics import GlueMetric, f1, matthews_correlation, pearson, spearman
from gamma_nlp.tasks.glue.tasks import TASKS

GUESS, TRUTH = [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 1, 0, 1]  # TP 3, FP 1, FN 1, TN 3


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("sst2", {"accuracy": 0.75}),
        ("rte", {"accuracy": 0.75}),
        ("mnli", {"accuracy": 0.75}),
        ("mrpc", {"accuracy": 0.75, "f1": 0.75}),
        ("qqp", {"accuracy": 0.75, "f1": 0.75}),
        ("cola", {"accuracy": 0.75, "matthews_correlation": 0.5}),
    ],
)
def test_each_task_has_the_scores_that_glue_defines(task: str, expected: dict[str, float]) -> None:
    assert GlueMetric(task).compute(predictions=GUESS, references=TRUTH) == pytest.approx(expected)


def test_stsb_correlates_scores_and_ranks() -> None:
    found = GlueMetric("stsb").compute(predictions=[1.0, 2.0, 4.0], references=[1.0, 2.0, 3.0])
    assert found["pearson"] == pytest.approx(9 / math.sqrt(84))
    assert found["spearman"] == pytest.approx(1.0)


def test_tied_ranks_share_their_mean() -> None:
    # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4.
    assert spearman(np.array([5, 5, 7, 9]), np.array([1, 2, 3, 4])) == pytest.approx(
        4.5 / math.sqrt(4.5 * 5)
    )


def test_numbers_that_are_equal_but_for_their_mean_are_constant() -> None:
    tenths = np.full(3, 0.1)  # their mean differs from them by a rounding
    assert tenths.mean() != 0.1
    assert math.isnan(pearson(tenths, tenths)) and math.isnan(pearson(tenths, np.arange(3)))


@pytest.mark.parametrize("correlate", [pearson, spearman])
def test_a_correlation_with_a_number_that_is_none_is_none(
    correlate: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    assert math.isnan(correlate(np.array([1.0, math.nan, 3.0]), np.arange(3.0)))
    assert math.isnan(correlate(np.arange(3.0), np.array([1.0, 2.0, math.inf])))
    assert correlate(np.arange(3.0), np.arange(3.0)) == pytest.approx(1.0)


def test_constant_predictions_of_a_class_score_zero_and_have_no_correlation() -> None:
    zeros, mixed = np.zeros(4), np.array([0, 1, 1, 0])
    assert f1(zeros, np.zeros(4)) == 0.0
    assert matthews_correlation(zeros, mixed) == 0.0
    assert math.isnan(pearson(mixed, zeros)) and math.isnan(spearman(zeros, mixed))
    with pytest.raises(GammaError, match="all 4 predictions are 0, so there is no correlation"):
        GlueMetric("stsb").compute(predictions=zeros, references=mixed)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_matthews_correlation_follows_its_confusion_matrix(pairs: list[tuple[bool, bool]]) -> None:
    guess, truth = (np.array(column, dtype=int) for column in zip(*pairs, strict=True))
    tp, tn = int(np.sum(guess & truth)), int(np.sum((1 - guess) & (1 - truth)))
    fp, fn = int(np.sum(guess & (1 - truth))), int(np.sum((1 - guess) & truth))
    scale = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    expected = (tp * tn - fp * fn) / scale if scale else 0.0
    assert matthews_correlation(guess, truth) == pytest.approx(expected, abs=1e-9)


def test_every_task_ranks_checkpoints_by_a_score_it_computes() -> None:
    for task in TASKS.values():
        values = [0.0, 1.0, 3.0] if task.regression else [0, 1, 1]
        scores = GlueMetric(task).compute(predictions=values, references=values)
        assert scores[task.metric] == pytest.approx(1.0)
