"""The rules by which pairs stay."""

from __future__ import annotations

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ("a b", "c", "ratio"),
        ("a b c", "d e", None),
        ("a b", "c d e", None),
        ("a b", "c d e f", "ratio"),
        ("a b c d e", "f g h i j", None),
        ("a b c d e f", "g h i j k", "long"),
        ("g h i j k", "a b c d e f", "long"),
        ("", "a", "empty"),
        ("a", " ", "empty"),
        ("x" * 1000, "a", None),
        ("x" * 1001, "a", "long_word"),
    ],
)
def test_a_pair_stays_or_goes_for_a_reason(one: str, two: str, reason: str | None) -> None:
    assert Cleaning(max_ratio=1.5, max_length=5).reason_to_drop((one, two)) == reason


def test_without_limits_only_empty_pairs_go() -> None:
    assert Cleaning().reason_to_drop(("x" * 2000, "a " * 500)) is None
    assert Cleaning().reason_to_drop(("", "a")) == "empty"


@pytest.mark.parametrize("limits", [{"max_ratio": 0.9}, {"max_ratio": float("nan")}])
def test_a_ratio_below_one_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(GammaError, match="max_ratio must be at least 1"):
        Cleaning(**limits)


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(GammaError, match="max_length must be at least 1, not 0"):
        Cleaning(max_length=0)
