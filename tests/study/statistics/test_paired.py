"""What cannot be compared is refused, with the arm and the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamma_nlp.errors import GammaError
from tests.support.paired_studies import from_items, from_scores, outcomes


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_names_arm_and_seed(wrong: float) -> None:
    with pytest.raises(GammaError, match=f"^all, seed 2: a score is {wrong}, not a number"):
        from_scores([1, 2, 3], [1, wrong, 3])
    with pytest.raises(GammaError, match=r"^none, seed 3: a score is"):
        from_scores([1, 2, wrong], [1, 2, 3])


def test_an_item_that_is_no_number_names_arm_and_seed() -> None:
    pair = from_items(*outcomes(0))
    sums = pair.sets[0].arm_sums.copy()
    sums[3, 7, 0] = np.nan
    with pytest.raises(GammaError, match=r"^all, seed 4: "):
        replace(pair, sets=(replace(pair.sets[0], arm_sums=sums),))


def test_items_of_another_score_are_refused() -> None:
    pair = from_items(*outcomes(0))
    with pytest.raises(GammaError, match=r"^all, seed 1: the score is .* and its items give"):
        replace(pair, arm_scores=pair.arm_scores + np.array([2, 0, 0, 0, 0]))


def test_a_score_of_two_digits_goes_with_its_items() -> None:
    pair = from_items(*outcomes(0))
    replace(pair, arm_scores=pair.arm_scores.round(1))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(GammaError, match=r"^none: scores of shape \(2,\) for 3 seeds"):
        from_scores([1, 2], [1, 2, 3])
    with pytest.raises(GammaError, match="all and none have no seed in common"):
        from_scores([], [])
    pair = from_scores([1, 2], [1, 2])
    with pytest.raises(GammaError, match="seed 1 is there twice"):
        replace(pair, seeds=(1, 1))
    pair = from_items(*outcomes(0))
    one = pair.sets[0]
    with pytest.raises(GammaError, match="compare the same items"):
        replace(pair, sets=(replace(one, arm_sums=one.arm_sums[:, 1:]),))
    with pytest.raises(GammaError, match="expected 2 or more"):
        alone = replace(one, arm_sums=one.arm_sums[:, :1], baseline_sums=one.baseline_sums[:, :1])
        replace(pair, sets=(alone,))
