"""The noise floor is what an A/A arm moves by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.noise import noise_floor
from tests.support.paired_studies import from_scores


def test_the_floor_is_the_root_mean_square_of_all_a_a_differences() -> None:
    floor = noise_floor(
        [from_scores([80, 80, 80], [80.3, 79.6, 80.0]), from_scores([70, 71], [70.1, 71.2])]
    )
    assert floor.pairs == 5
    assert floor.deviation == pytest.approx(np.sqrt((0.09 + 0.16 + 0.01 + 0.04) / 5))
    assert floor.largest == pytest.approx(0.4)
    assert floor.moved


def test_a_mean_within_the_floor_is_flagged_and_one_beyond_is_not() -> None:
    floor = noise_floor([from_scores([80, 80, 80, 80], [80.2, 79.8, 80.2, 79.8])])
    reach = stats.t.ppf(0.975, 4) * 0.2 / np.sqrt(9)
    assert floor.covers(0.99 * reach, seeds=9) and floor.covers(-0.99 * reach, seeds=9)
    assert not floor.covers(1.01 * reach, seeds=9)


def test_a_baseline_that_repeats_bit_by_bit_has_no_floor() -> None:
    floor = noise_floor([from_scores([80, 81], [80, 81])])
    assert not floor.moved and not floor.covers(0.01, seeds=2) and floor.covers(0, seeds=2)


def test_no_a_a_arm_is_said() -> None:
    with pytest.raises(GammaError, match="no A/A arm"):
        noise_floor([])
