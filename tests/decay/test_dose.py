from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gamma_nlp.decay.dose import decay_dose
from gamma_nlp.decay.precision import lost_to_rounding
from gamma_nlp.errors import GammaError
from tests.support.doses import linear

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def test_published_settings_give_the_documented_doses() -> None:
    assert decay_dose(1e-4, 11.1) == pytest.approx(0.0011, rel=0.02)
    assert decay_dose(0.01, linear(6315, 2e-5)) == pytest.approx(0.0006, rel=0.06)
    assert decay_dose(1.7, 0.063) == pytest.approx(0.1, rel=0.02)


def test_sequence_and_sum_agree() -> None:
    lrs = linear(1000, 1e-3)
    by_step = decay_dose(0.3, lrs, dtype=torch.float64)
    assert by_step == pytest.approx(decay_dose(0.3, sum(lrs)), rel=1e-3)


def test_bf16_cancels_small_decay() -> None:
    lrs = [2e-5] * 3000
    assert decay_dose(1.7, lrs, dtype=torch.bfloat16) == 0.0
    assert decay_dose(1.7, lrs, dtype=torch.float32) == pytest.approx(0.097, abs=1e-3)
    assert decay_dose(1e-4, [1e-5] * 100_000, dtype=torch.float32) == 0.0
    assert decay_dose(1e-4, [1e-5] * 100_000, dtype=torch.float64) == pytest.approx(1e-4, rel=1e-3)


def test_offset_gain_in_bf16_stops_where_its_parameter_gets_large() -> None:
    lrs = [2e-5] * 3000
    dose = decay_dose(1.7, lrs, dtype=torch.bfloat16, offset=1.0)
    assert dose is not None and 0 < dose < 0.09


def test_coupled_decay_inside_adam_has_no_closed_form() -> None:
    assert decay_dose(0.1, 1.0, mode="coupled") is None
    assert decay_dose(0.1, 1.0, mode="coupled", adaptive=False) == pytest.approx(0.0952, abs=1e-4)
    assert decay_dose(0.0, 1.0, mode="coupled") == 0.0


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((-0.1, 1.0), {}, "coefficient must be finite and >= 0"),
        ((0.1, [1e-3, -1e-3]), {}, "learning rates must be finite and >= 0, got -0.001"),
        ((0.1, 1.0), {"mode": "coupled", "momentum": 1.0}, "momentum must be"),
        ((0.1, 1.0), {"momentum": 0.9}, "does not pass through the momentum"),
        ((0.1, 1.0), {"start": 0.0}, "start must be"),
        ((0.1, 1.0), {"start": torch.zeros(3)}, "start must be"),
        ((0.1, 1.0), {"start": "one"}, "start must be a number or a tensor, got 'one'"),
        (
            (0.1, 1.0),
            {"target": "two"},
            "target must be one of zero, one, start, stored, got 'two'",
        ),
        ((0.1, 1.0), {"rounding": "no"}, "rounding must be one of defer, keep, got 'no'"),
        ((0.1, 1.0), {"dtype": torch.int8}, "no dose for dtype torch.int8"),
        ((0.1, 1.0), {"mode": "both"}, "mode must be"),
        ((10.0, [1.0]), {}, "lr \\* coefficient reaches 10"),
    ],
)
def test_bad_numbers_are_named(args: tuple, kwargs: dict, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        decay_dose(*args, **kwargs)


def test_loss_to_rounding() -> None:
    assert lost_to_rounding(0.0, 0.1) and not lost_to_rounding(0.09, 0.1)
    assert not lost_to_rounding(0.0, 0.0) and not lost_to_rounding(None, None)


@pytest.mark.parametrize(
    ("coefficient", "lrs", "message"),
    [
        (0.1, "x", "lrs must be a learning rate for every step, or their sum, got 'x'"),
        (0.1, ["a"], r"lrs must be .*, got \['a'\]"),
        (0.1, None, "lrs must be .*, got None"),
        ("0.1", 1.0, "coefficient must be a number, got '0.1'"),
        (None, [0.1], "coefficient must be a number, got None"),
    ],
)
def test_what_is_no_number_is_named(coefficient: Any, lrs: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        decay_dose(coefficient, lrs)


def test_a_pause_does_not_end_the_decay() -> None:
    assert decay_dose(0.1, [0.0, 1.0, 0.0, 1.0]) == pytest.approx(0.19)


def test_one_step_may_take_the_whole_gain_and_no_more() -> None:
    assert decay_dose(1.0, [1.0]) == 1.0
    with pytest.raises(GammaError, match=r"reaches 1\.01"):
        decay_dose(1.01, [1.0])


@pytest.mark.parametrize("start", [0.25, -3.0])
def test_a_dose_is_the_part_of_any_start(start: float) -> None:
    assert decay_dose(0.1, [1.0, 1.0], start=start) == pytest.approx(0.19)


def test_a_start_may_be_many_gains() -> None:
    gains = torch.tensor([1.0, 1.05, 1.9])
    lrs = [1e-3] * 100
    assert decay_dose(3.0, lrs, dtype=torch.bfloat16, start=1.05) == 0.0
    some = decay_dose(3.0, lrs, dtype=torch.bfloat16, start=gains)
    assert some is not None and some > 0.0  # 1.9 moves
    kept = decay_dose(3.0, lrs, dtype=torch.bfloat16, start=gains, rounding="defer")
    assert kept == pytest.approx(1 - 0.997**100, rel=0.02)


@pytest.mark.parametrize("target", ["zero", "one"])
def test_a_dose_is_the_part_of_the_distance_to_the_target(target: Any) -> None:
    for offset in (0.0, 1.0):
        dose = decay_dose(0.1, [1.0, 1.0], start=3.0, target=target, offset=offset)
        assert dose == pytest.approx(0.19, rel=1e-5)


def test_decay_toward_the_start_takes_a_part_of_a_displacement() -> None:
    assert decay_dose(0.1, [1.0, 1.0], target="start") == pytest.approx(0.19, rel=1e-5)


@pytest.mark.parametrize("values", [1.0, 1.01, 1.1])
def test_published_translation_settings_reach_their_dose_in_float32(values: float) -> None:
    rates = [5e-4 * min((t + 1) / 4000, math.sqrt(4000 / (t + 1))) for t in range(50_000)]
    exact = -math.expm1(-1e-4 * math.fsum(rates))
    assert exact == pytest.approx(0.00111, rel=0.01)
    told = decay_dose(1e-4, rates, start=values, rounding="defer")
    assert told == pytest.approx(exact, rel=0.02)
    lost = decay_dose(1e-4, rates, start=values)
    assert lost is not None and lost < 0.97 * exact


def test_nan_is_no_coefficient() -> None:
    with pytest.raises(GammaError, match="coefficient must be finite"):
        decay_dose(float("nan"), 1.0)


def test_momentum_divides_a_sum_of_rates() -> None:
    told = decay_dose(0.01, 30.0, mode="coupled", adaptive=False, momentum=0.9)
    assert told == pytest.approx(-math.expm1(-0.01 * 30 / 0.1))
