"""Where decay is deferred by itself."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch
from torch import nn

from gamma_nlp.decay.assign import Decay, decays_for
from gamma_nlp.decay.deferred import share_of
from gamma_nlp.decay.rounding import deferred_share, with_deferral
from gamma_nlp.decay.samples import sample
from gamma_nlp.decay.schedule import Schedule
from tests.support.doses import linear
from tests.support.optim_models import Toy, toy_table


def deferred(values: torch.Tensor, decay: Decay, rates: list[float], **kwargs: str) -> bool:
    native = kwargs.get("native", "decoupled")
    named = {"g": nn.Parameter(values)}
    (made,) = with_deferral(named, {"g": decay}, native=native, rates=rates).values()  # type: ignore[arg-type]
    return made.share > 0


def test_the_dtype_decides() -> None:
    rates, decay = linear(3000, 2e-5), Decay(coefficient=3.4)
    ones = torch.ones(8)
    assert deferred(ones.bfloat16(), decay, rates) and deferred(ones.half(), decay, rates)
    assert not deferred(ones, decay, rates) and not deferred(ones.double(), decay, rates)
    assert deferred(ones, Decay(coefficient=1e-3), rates)  # lr * decay is 2e-8


def test_the_values_decide() -> None:
    rates, decay = [1.0] * 20, Decay(coefficient=2.0**-7)
    assert not deferred(torch.full((4,), 1.0).bfloat16(), Decay(coefficient=2.0**-8), [1.0])
    assert deferred(torch.full((4,), 1.37).bfloat16(), decay, rates)


@pytest.mark.parametrize("gains", [0.3, 1.0, 1.01, 1.1, 30.0])
def test_published_translation_settings_are_deferred(gains: float) -> None:
    rates = linear(50_000, 5e-4)
    assert deferred(torch.full((4,), gains), Decay(coefficient=1e-4), rates)


def test_what_stays_as_it_is() -> None:
    rates, ones = linear(100, 1e-5), torch.ones(4).bfloat16()
    assert not deferred(ones, Decay(coefficient=1.0, rounding="keep"), rates)
    assert not deferred(ones, Decay(coefficient=1.0, mode="coupled"), rates)
    assert not deferred(ones, Decay(coefficient=1.0), rates, native="coupled")
    assert deferred(ones, Decay(coefficient=1.0, mode="decoupled"), rates, native="coupled")
    assert not deferred(ones, Decay(coefficient=0.0), rates)
    assert not deferred(ones, Decay(coefficient=1.0), [])
    assert not deferred(ones.to(torch.float8_e5m2), Decay(coefficient=1.0), rates)


def test_one_rate_stands_for_a_run_of_unknown_length() -> None:
    decay = Decay(coefficient=1.0)
    assert deferred(torch.ones(4).bfloat16(), decay, [1e-4])
    assert not deferred(torch.ones(4), decay, [1e-4])


@pytest.mark.parametrize("center", [1.0, -1.0, "start"])
def test_the_center_counts(center: float | str) -> None:
    decay = Decay(coefficient=0.1, center=center)  # type: ignore[arg-type]
    ones = torch.full((4,), 1.25)
    assert deferred(ones.bfloat16(), decay, linear(200, 1e-3))
    assert not deferred(ones.double(), decay, linear(200, 1e-3))


def test_a_schedule_is_read() -> None:
    rates, values = [1e-3] + [1e-6] * 1000, torch.full((4,), 1.02)
    assert deferred(values, Decay(coefficient=0.05), rates)
    assert not deferred(values, Decay(coefficient=0.05, schedule=Schedule(kind="constant")), rates)


def test_parts_on_no_device_and_empty_ones_are_taken_for_one() -> None:
    rates, decay = torch.tensor(linear(100, 1e-5), dtype=torch.float64), Decay(coefficient=1.0)
    for values in (torch.empty(4, device="meta"), torch.empty(0)):
        assert deferred_share(values.bfloat16(), decay, rates, native="decoupled") > 0


def test_several_processes_decide_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gamma_nlp.decay.rounding._several_processes", lambda: True)
    rates, decay = [1.0] * 3, Decay(coefficient=2.0**-8)
    assert deferred(torch.ones(4).bfloat16(), decay, rates)
    monkeypatch.setattr("gamma_nlp.decay.rounding._several_processes", lambda: False)
    assert not deferred(torch.full((4,), 64.0).bfloat16(), decay, [1.0])


def test_a_large_model_takes_about_a_second() -> None:
    generator = torch.Generator().manual_seed(0)
    named = {
        str(n): nn.Parameter(torch.randn(256, 768, generator=generator)) for n in range(60)
    } | {f"g{n}": nn.Parameter(1 + torch.randn(768, generator=generator) / 10) for n in range(50)}
    decays = dict.fromkeys(named, Decay(coefficient=0.01))
    before = time.process_time()
    with_deferral(named, decays, native="decoupled", rates=linear(10_000, 1e-4))
    assert time.process_time() - before < 3


def test_gains_that_start_at_their_target_are_taken_to_move_from_it() -> None:
    # At 1.0 a step of 5e-7 toward 1 is four units up and eight half-units down: rounding decides.
    named = {"g": nn.Parameter(torch.ones(4))}
    decay = Decay(coefficient=5e-5, center=1.0)
    rates = [1e-2] * 4000
    found = with_deferral(named, {"g": decay}, native="decoupled", rates=rates)["g"]
    toward_start = dataclasses.replace(decay, center="start")
    same = with_deferral(named, {"g": toward_start}, native="decoupled", rates=rates)["g"]
    assert found.share == same.share > share_of(torch.float32)
    far = {"g": nn.Parameter(torch.full((4,), 2.4))}
    alone = with_deferral(far, {"g": decay}, native="decoupled", rates=rates)["g"]
    assert alone.share == share_of(torch.float32)


def test_weights_decay_as_in_the_stock_optimizer_unless_most_of_it_is_lost() -> None:
    gains, rates = torch.ones(8), [5e-5] * 1000
    model, values = Toy(), torch.rand(1000) + 0.5
    decays = decays_for(model, weight_decay=0.01, policy="all", table=toy_table())
    for name, lost_in_float32 in (("w", False), ("embed", False), ("inner", True)):
        # Of 5e-7 a float32 factor takes 4.6 %, of 2e-8 all.
        decay = decays[name]
        assert deferred(values, decay, rates) is lost_in_float32
        assert deferred(values, dataclasses.replace(decay, coefficient=4e-4), rates)
        assert deferred(gains.bfloat16(), decay, rates)


def test_values_at_their_center_are_taken_to_spread() -> None:
    # One value would be the luckiest or unluckiest; trained ones lie anywhere.
    for center in (0.0, 1.0):
        moved = sample(torch.full((8,), center)).displaced(center, torch.float32).values
        assert len(moved) == 64 and bool((moved > center).all())
    apart = sample(torch.tensor([0.0, 0.5]))
    assert apart.displaced(0.0, torch.float32) is apart
