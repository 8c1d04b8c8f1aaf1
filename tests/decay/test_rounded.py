"""Jumping from event to event ends where making every step ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gamma_nlp.decay.rounded import Rounding, exact_ends, rounded_ends
from gamma_nlp.decay.runs import MOST, Run, runs_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def every_step(w: Tensor, center: Tensor, shares: Tensor, rounding: Rounding) -> Tensor:
    for share, taken in zip(shares.tolist(), rounding.taken(shares).tolist(), strict=True):
        w = rounding.step(w, Run(share=share, taken=taken, steps=1), center)
    return w


def warm_cosine(steps: int, peak: float) -> Tensor:
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return peak * torch.where(t < 0.1, t / 0.1, 0.5 * (1 + (math.pi * (t - 0.1) / 0.9).cos()))


def dose(start: Tensor, end: Tensor, center: Tensor) -> float:
    return float(1 - (end - center).abs().sum() / (start - center).abs().sum())


PEAKS = {
    torch.float32: (3e-8, 1e-5, 3e-3),
    torch.bfloat16: (3e-4, 3e-3),
    torch.float16: (3e-4, 3e-3),
}
"""Steps of less than a unit, of some and of many; others lie between or do nothing."""

RUNS = [
    pytest.param(dtype, peak, marks=[] if peak in PEAKS[dtype] else pytest.mark.slow)
    for dtype in DTYPES
    for peak in (3e-8, 1e-5, 3e-4, 3e-3)
]


@pytest.mark.parametrize(("dtype", "peak"), RUNS)
@pytest.mark.parametrize("centered", [None, "before", "after"])
@pytest.mark.parametrize("narrow", [False, True])
def test_jumps_end_where_steps_end(
    dtype: torch.dtype, narrow: bool, centered: Any, peak: float
) -> None:
    gains = torch.cat([torch.tensor([0.3, 1.0, 1.05, 1.37, 30.0]), torch.linspace(0.1, 2.1, 20)])
    center = torch.tensor([-1.0 if centered == "before" else float(centered is not None)]).double()
    start = (gains - float(centered == "before")).to(dtype).double()
    factor = None if centered == "after" else dtype if narrow else torch.float32
    alpha = dtype if narrow else torch.float32
    rounding = Rounding(dtype=dtype, factor=factor, centered=centered, alpha=alpha)
    shares = warm_cosine(2_500, peak)
    told = rounded_ends(start, center, runs_of(shares, rounding.taken(shares)), rounding)
    made = every_step(start, center, shares, rounding)
    whole = dose(start, exact_ends(start, center, shares), center)
    assert dose(start, told, center) == pytest.approx(
        dose(start, made, center), rel=0.02, abs=2e-4 * whole
    )


@pytest.mark.parametrize("peak", [5e-8, 1e-6, 4e-4, 3e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_runs_of_equal_steps_end_where_steps_end(dtype: torch.dtype, peak: float) -> None:
    start = torch.cat([torch.tensor([0.3, 1.0, 1.02, 30.0]), torch.linspace(1.0, 2.1, 20)])
    start, center = start.to(dtype).double(), torch.zeros(1, dtype=torch.float64)
    shares = torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64).repeat_interleave(1_500) * peak
    rounding = Rounding(dtype=dtype, factor=None)
    told = rounded_ends(start, center, runs_of(shares, shares), rounding)
    made = every_step(start, center, shares, rounding)
    away = (start - exact_ends(start, center, shares)).abs()
    assert bool(((told - made).abs() <= 0.01 * away).all())


def test_rounding_of_coupled_decay_in_the_gradient_is_followed() -> None:
    start = torch.linspace(0.3, 3.0, 40).bfloat16().double()
    center, shares = torch.zeros(1, dtype=torch.float64), torch.full((5_000,), 2.5e-3)
    rounding = Rounding(dtype=torch.bfloat16, coefficient=0.37)
    told = rounded_ends(start, center, runs_of(shares.double(), shares.double()), rounding)
    assert torch.equal(told, every_step(start, center, shares.double(), rounding))


def test_runs_keep_the_sum_and_the_number_of_steps() -> None:
    for shares in (warm_cosine(50_000, 1e-3), warm_cosine(50_000, 1e-3).roll(7)):
        runs = runs_of(shares, shares)
        assert len(runs) <= MOST and sum(run.steps for run in runs) == len(shares)
        total = math.fsum(run.share * run.steps for run in runs)
        assert total == pytest.approx(float(shares.sum()), rel=1e-9)


def test_a_pause_is_a_run_of_its_own() -> None:
    shares = torch.cat([torch.full((3_000,), 1e-3), torch.zeros(2_000), torch.full((9,), 1e-3)])
    assert [(r.share > 0, r.steps) for r in runs_of(shares, shares)] == [
        (True, 3_000),
        (False, 2_000),
        (True, 9),
    ]
    assert runs_of(shares[:0], shares[:0]) == []


def test_rates_that_swing_too_often_are_merged_in_blocks() -> None:
    shares = torch.tensor([1e-3, 5e-4]).double().repeat(10_000)
    runs = runs_of(shares, shares)
    assert len(runs) <= MOST and sum(run.steps for run in runs) == 20_000
    assert runs[0].share == pytest.approx(7.5e-4)
