"""Every verdict is a sentence with its numbers and units, and none of them is nan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamma_nlp.study.statistics.compare import compare
from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.sentence import amount, decimals, sentence
from tests.support.paired_studies import from_scores

BASE = np.array([80.0, 81.0, 79.0, 80.5, 80.2, 79.4])
MOVED = np.array([0.1, -0.2, 0.05, 0.15, -0.1, 0.0])


def said(arm: np.ndarray, margin: float | None = 0.5) -> str:
    (row,) = compare(
        [from_scores(BASE[: len(arm)], arm)], margin=margin, higher_is_better=True, unit="points"
    )
    return row.sentence


def row(**changes: object) -> Comparison:
    (found,) = compare([from_scores(BASE, BASE + MOVED)], margin=None, higher_is_better=True)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_better_and_worse() -> None:
    assert said(BASE + MOVED + 2) == (
        "all is better than none: +2.00 points (95 % interval 1.86 to 2.14; 6 seeds, no items; "
        "p < 0.0001)"
    )
    assert said(BASE + MOVED - 2).startswith("all is worse than none: \N{MINUS SIGN}2.00 points (")


def test_no_difference_names_the_margin() -> None:
    assert said(BASE + MOVED).startswith(
        "no difference of all from none larger than 0.5 points: 0.00 points (95 % interval "
    )


def test_an_interval_that_reaches_beyond_the_margin_is_explained() -> None:
    inside = said(BASE + MOVED)
    beyond = row(
        verdict=Verdict.NO_DIFFERENCE, low=-0.55, high=0.1, p_equivalence_holm=0.04, seeds=6
    )
    end = "; each end is tested by itself at 5 %, so the interval may reach beyond 0.5 points"
    assert sentence(beyond, 1, 0.5, 0.95, "points").endswith(end)
    assert "by itself" not in inside


def test_undecided_names_the_seeds_that_are_missing() -> None:
    text = said(BASE + 6 * MOVED)
    start = (
        "undecided: all came out at 0.00 points against none, which may be chance (95 % interval"
    )
    assert text.startswith(start)
    assert text.endswith("more seeds would decide")


def test_one_more_is_singular() -> None:
    found = row(verdict=Verdict.UNDECIDED, more_seeds=1, seeds=2)
    text = sentence(found, 1, None, 0.95, "points")
    assert text.endswith("about 1 more seed would decide") and "2 seeds" in text


def test_where_items_limit_it_says_how_many() -> None:
    found = row(verdict=Verdict.UNDECIDED, more_seeds=None, items=872, needed_items=4100)
    text = sentence(found, 1, 0.5, 0.95, "points")
    assert text.endswith(
        "no number of seeds would decide on 872 items: about 4,100 items are needed, and seeds "
        "besides"
    )
    found = row(verdict=Verdict.UNDECIDED, more_seeds=None, needed_items=None)
    text = sentence(found, 1, 0.5, 0.95, "points")
    assert text.endswith(
        "not even 1,000 seeds would decide: the difference is too near to the smallest one that "
        "matters"
    )
    assert sentence(found, 1, None, 0.95, "points").endswith("is too near to 0")


def test_one_point_is_singular() -> None:
    assert "larger than 1 point: " in said(BASE + MOVED, 1.0)
    assert "larger than 1.5 points: " in said(BASE + MOVED, 1.5)
    assert amount("1", "nats") == "1 nat" and amount("1", "words") == "1 words"


def test_one_seed_and_seeds_apart_by_the_same_are_told_without_an_interval() -> None:
    assert said(BASE[:1] + 2) == (
        "undecided: all came out at +2.00 points in the one seed against none, and one seed cannot "
        "tell a difference from chance; run at least 5 more seeds"
    )
    assert said(BASE[:3] + 2) == (
        "undecided: all came out at +2.00 points in all 3 seeds against none, too few to rule out "
        "chance; 3 more seeds would decide if it stays so"
    )


@pytest.mark.parametrize(
    ("low", "high", "digits"), [(-20, 30, 2), (-0.4, 0.6, 2), (0.001, 0.003, 4), (0, 1e-12, 8)]
)
def test_numbers_have_the_digits_of_the_interval(low: float, high: float, digits: int) -> None:
    assert decimals(row(low=low, high=high)) == digits


@pytest.mark.parametrize("margin", [None, 0.5, 5.0])
@pytest.mark.parametrize("seeds", [1, 2, 5, 6])
@pytest.mark.parametrize("gain", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_no_sentence_has_a_number_that_is_none(
    margin: float | None, seeds: int, gain: float, spread: float
) -> None:
    text = said(BASE[:seeds] + gain + spread * MOVED[:seeds], margin)
    assert "nan" not in text and "None" not in text and "inf" not in text.replace("interval", "")
    assert "-" not in text.replace("sign-flip", "")
