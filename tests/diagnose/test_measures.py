"""Measures against numbers worked out by hand, and the rule of the outliers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gamma_nlp.diagnose.measures import Measure, growth, joined, measure
from gamma_nlp.diagnose.outliers import outliers
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import Gain


def flat(value: float, broken: int = 0) -> Measure:
    return Measure(numel=4, rms=value, largest=value, channel=1, near_zero=0.0, broken=broken)


def gain(i: int, kind: str = "rms_norm", category: Category = Category.HEAD) -> Gain:
    return Gain(
        name=f"h.{i}.ln.weight", category=category, kind=kind, offset=0.0, source="table",
        reason="", dtype="float32", numel=4,
    )  # fmt: skip


def test_the_gain_is_offset_and_parameter() -> None:
    found = measure([torch.tensor([-1.0, 2.0, -0.98, -4.0])], offset=1.0)
    assert found.rms == pytest.approx(math.sqrt((0 + 9 + 0.02**2 + 9) / 4))
    assert (found.largest, found.channel) == (3.0, 1)
    assert found.near_zero == 0.5
    assert measure([torch.tensor([-1.0, 2.0, -0.98, -4.0])], 1.0, near=0.01).near_zero == 0.25


def test_a_gain_in_parts_is_one() -> None:
    found = measure([torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])], offset=0.0)
    assert found.numel == 3 and found.channel == 1
    assert found.rms == pytest.approx(5 / math.sqrt(3))


def test_narrow_numbers_are_squared_in_wide_ones() -> None:
    found = measure([torch.full((5000,), 300.0, dtype=torch.float16)], offset=0.0)
    assert found.rms == 300.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_spoils_the_measure_and_is_counted(value: float) -> None:
    found = measure([torch.tensor([1.0, value, value])], offset=0.0)
    assert found.broken == 2
    assert all(map(math.isnan, (found.rms, found.largest, found.near_zero)))
    whole = joined([flat(1.0), found])
    assert whole.broken == 2 and math.isnan(whole.rms) and math.isnan(whole.largest)


def test_several_gains_weigh_by_their_values() -> None:
    one = measure([torch.ones(3)], offset=0.0)
    two = measure([torch.tensor([0.0])], offset=0.0)
    whole = joined([one, two])
    assert whole.rms == pytest.approx(math.sqrt(3) / 2)
    assert whole.near_zero == 0.25 and whole.largest == 1.0 and whole.numel == 4


def test_growth_is_of_the_rms() -> None:
    assert growth(flat(2.0), flat(3.0)) == 0.5
    assert growth(flat(0.0), flat(0.0)) == 0.0
    assert growth(flat(0.0), flat(1.0)) == math.inf
    assert math.isnan(growth(flat(1.0), flat(math.nan)))


def test_an_outlier_cannot_hide_itself() -> None:
    gains = [gain(i) for i in range(6)]
    (rms, largest) = outliers(gains, [flat(v) for v in (1.0, 1.1, 0.9, 1.05, 0.95, 40.0)])
    assert rms.gain.name == largest.gain.name == "h.5.ln.weight"
    assert {rms.what, largest.what} == {"rms", "largest"}
    assert rms.usual == pytest.approx(1.025) and rms.value == 40.0
    assert rms.deviations > 5


def test_a_gain_that_fell_is_an_outlier_below() -> None:
    found = outliers([gain(i) for i in range(6)], [flat(v) for v in (1, 1, 1, 1, 1, 0.5)])
    assert {one.deviations for one in found} == {-25.0}


def test_noise_among_equal_gains_is_no_outlier() -> None:
    assert not outliers([gain(i) for i in range(6)], [flat(v) for v in (1, 1, 1, 1, 1, 1.09)])
    assert not outliers([gain(i) for i in range(6)], [flat(0.0)] * 6)


def test_gains_are_compared_with_their_own_kind_and_category_where_there_are_enough() -> None:
    values = [flat(1.0)] * 5 + [flat(9.0)] * 4
    for kind, category in (("qk_norm", Category.HEAD), ("rms_norm", Category.SHORTCUT)):
        others = [gain(i, kind, category) for i in range(4)]
        assert not outliers([gain(i) for i in range(5)] + others, values)
    assert outliers([gain(i) for i in range(9)], values)
    assert not outliers([gain(i) for i in range(4)], [flat(v) for v in (1, 1, 1, 90)])


def test_broken_gains_are_no_peers() -> None:
    values = [flat(1.0)] * 5 + [flat(math.nan, broken=1)]
    assert not outliers([gain(i) for i in range(6)], values)


def test_the_same_gain_in_other_layers_comes_first() -> None:
    others = [replace(gain(i), name=f"h.{i}.mlp.norm.weight") for i in range(6)]
    values = [flat(v) for v in (1, 1, 1, 1, 1, 1.5, 3, 3, 3, 3, 3, 3)]
    (one, _) = outliers([gain(i) for i in range(6)] + others, values)
    assert one.gain.name == "h.5.ln.weight" and one.usual == 1.0


def test_gains_of_few_layers_are_compared_with_their_category_and_kind() -> None:
    first = [replace(gain(0), name="embeddings.ln.weight")]
    values = [flat(v) for v in (40, 1, 1, 1, 1, 1, 1)]
    assert {one.gain.name for one in outliers(first + [gain(i) for i in range(6)], values)} == {
        "embeddings.ln.weight"
    }
