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


def test_only_half_precision_gains_are_warned_of() -> None:
    rows = [
        replace(gain(dtype, Category.HEAD), dtype=dtype)
        for dtype in ("bfloat16", "float16", "float32")
    ]
    table = GainTable(gains=tuple(rows))
    names = [row.name for row in rows]
    coefficients, none = dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.0)
    lost = rounded_away(table, coefficients, none, 1.0)
    assert [row.name for row in lost] == ["bfloat16", "float16"]
    assert rounded_away(table, coefficients, dict.fromkeys(names, 0.09), 1.0) == []
    assert rounded_away(table, coefficients, none, None) == []
    assert rounded_away(table, none, none, 1.0) == []


def test_the_remedy_fits_the_run() -> None:
    lost = [replace(gain("g", Category.HEAD), dtype="bfloat16")]
    assert "gains_to_fp32(model) before" in rounding_warning(lost, autocast=True)
    assert "dtype=torch.float32" in rounding_warning(lost, autocast=False)
    assert rounding_warning(lost, autocast=True, remedy="do this").endswith("float32: do this")


def test_a_model_places_its_own_gains() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).bfloat16()
    table = GainTable(gains=(gain("1.weight", Category.HEAD),))
    gains_to_fp32(model, table)
    assert [p.dtype for p in model[1].parameters()] == [torch.float32, torch.bfloat16]
