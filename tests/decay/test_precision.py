"""What rounding takes from a decay, and gains in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gamma_nlp import gains_to_fp32
from gamma_nlp.decay.precision import lost_to_rounding, rounded_away, rounding_warning
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import Toy, gain, toy_table


def test_more_than_half_of_a_dose_counts_as_lost() -> None:
    assert not lost_to_rounding(0.05, 0.1)
    assert lost_to_rounding(0.0499, 0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gains_and_shifts_become_float32_and_nothing_else(dtype: torch.dtype) -> None:
    model = gains_to_fp32(Toy(dtype), toy_table())
    wide = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert wide == {"inner", "last", "trunk", "final", "inner_shift"}
    double = gains_to_fp32(Toy(torch.float64), toy_table())
    assert {p.dtype for p in double.parameters()} == {torch.float64}


def test_gains_that_lose_more_than_half_are_warned_of() -> None:
    table = GainTable(gains=tuple(gain(name, Category.HEAD) for name in "abc"))
    exact = dict.fromkeys("abc", 0.1)
    lost = rounded_away(table, {"a": 0.0, "b": 0.04, "c": 0.09}, exact)
    assert [row.name for row in lost] == ["a", "b"]
    assert rounded_away(table, dict.fromkeys("abc"), exact) == []
    assert rounded_away(table, dict.fromkeys("abc", 0.0), {}) == []


def test_the_remedy_fits_the_run() -> None:
    lost = [replace(gain("g", Category.HEAD), dtype="bfloat16")]
    assert "gains_to_fp32(model) before" in rounding_warning(lost, autocast=True)
    assert "dtype=torch.float32" in rounding_warning(lost, autocast=False)
    assert rounding_warning(lost, autocast=True, remedy="do this").endswith("float32: do this")
    assert "mode: decoupled" in rounding_warning(lost, autocast=True, coupled=True)
    kept = rounding_warning(lost, autocast=True, kept=True)
    assert "rounding: defer" in kept and "float32" not in kept


def test_a_model_places_its_own_gains() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).bfloat16()
    table = GainTable(gains=(gain("1.weight", Category.HEAD),))
    gains_to_fp32(model, table)
    assert [p.dtype for p in model[1].parameters()] == [torch.float32, torch.bfloat16]
