"""The groups of a planned run."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.decided import planned_groups
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError
from tests.support.decay_runs import build
from tests.support.optim_models import Toy, toy_table


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -1.0, True, "0.1"])
def test_a_learning_rate_that_is_none_is_named(lr: Any) -> None:
    with pytest.raises(GammaError, match=r"lr must be a finite number >= 0, got"):
        build(Toy(), rates=None, lr=lr)
    with pytest.raises(GammaError, match=r"rates\[1\] must be a finite number >= 0, got"):
        build(Toy(), rates=[0.1, lr])


def test_an_earlier_part_of_the_run_decides_what_is_deferred() -> None:
    """As the Trainer makes its groups: after it has loaded the weights of a checkpoint."""
    lr, named = 2.0**-19, dict(Toy().named_parameters())
    decays = {"inner": Decay(coefficient=0.125), "trunk": Decay(coefficient=0.125)}
    named = {"inner": nn.Parameter(torch.full((4,), 1.31)), "trunk": named["trunk"]}
    settings: dict[str, Any] = {"native": "decoupled", "lr": lr, "rates": [lr] * 10}
    with torch.no_grad():
        named["trunk"].fill_(0.75)
    first = planned_groups(named, decays, **settings)
    earlier = {name: group for group in first for name in group["param_names"]}
    assert {n: "gamma_share" in g for n, g in earlier.items()} == {"inner": True, "trunk": False}
    with torch.no_grad():
        named["inner"].fill_(0.75)
        named["trunk"].fill_(1.31)
    assert planned_groups(named, decays, **settings, earlier=earlier) == first
    assert planned_groups(named, decays, **settings) != first
    other = {name: dataclasses.replace(d, coefficient=0.25) for name, d in decays.items()}
    for changed in (other, {n: dataclasses.replace(d, rounding="keep") for n, d in decays.items()}):
        asked = planned_groups(named, changed, **settings, earlier=earlier)
        assert asked == planned_groups(named, changed, **settings)


@pytest.mark.parametrize(
    "rates", [torch.linspace(1e-3, 0.0, 5), np.linspace(1e-3, 0.0, 5), (1e-3 for _ in range(5))]
)
def test_planned_rates_are_any_numbers_in_order(rates: Any) -> None:
    policy = DecayPolicy(schedule="cosine")
    optimizer = make_optimizer(
        torch.optim.AdamW,
        Toy(),
        weight_decay=0.1,
        lr=1e-3,
        policy=policy,
        table=toy_table(),
        rates=rates,
    )
    assert {g["gamma_steps"] for g in optimizer.param_groups if "gamma_steps" in g} == {5}


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (1e-3, "rates must be the learning rates of the run, one for every step, got 0.001"),
        ([], r"one for every step, got \[\]"),
        ("1e-3", "one for every step, got '1e-3'"),
        (torch.ones(2, 2), "one for every step, got tensor"),
        ([1e-3, math.nan], r"rates\[1\] must be a finite number >= 0, got nan"),
        ([[1e-3, 1e-4]], r"rates\[0\] must be a finite number >= 0, got \[0.001"),
        ([1e-3, None], r"rates\[1\] must be a finite number >= 0, got None"),
    ],
)
def test_planned_rates_that_are_none_are_named(rates: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        make_optimizer(
            torch.optim.AdamW, Toy(), weight_decay=0.1, lr=1e-3, table=toy_table(), rates=rates
        )
