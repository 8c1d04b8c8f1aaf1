from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from transformers import get_scheduler

from gamma_nlp import DecayPolicy, GammaError, categorize, make_optimizer
from gamma_nlp.decay.plan import GRID, plan_decay, rates_of_scheduler
from tests.support.doses import make

STEPS = 7


def optimizer(rates: tuple[float, ...] = (0.1, 0.02)) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates], momentum=0.9
    )


def warm_then_cosine(own: torch.optim.Optimizer) -> SequentialLR:
    parts = [LinearLR(own, total_iters=2), CosineAnnealingLR(own, STEPS)]
    return SequentialLR(own, parts, milestones=[2])


@pytest.mark.parametrize(
    "schedule",
    [
        lambda own: get_scheduler("linear", own, num_warmup_steps=2, num_training_steps=STEPS),
        lambda own: get_scheduler("cosine", own, num_warmup_steps=2, num_training_steps=STEPS),
        lambda own: get_scheduler("constant", own),
        lambda own: CosineAnnealingLR(own, STEPS),
        lambda own: OneCycleLR(own, max_lr=[0.1, 0.02], total_steps=STEPS + 1),
        warm_then_cosine,
    ],
)
def test_planned_rates_are_those_of_the_run(schedule: Any) -> None:
    own = optimizer()
    scheduler = schedule(own)
    before = json.dumps(scheduler.state_dict(), default=str)
    planned = rates_of_scheduler(scheduler, STEPS)
    assert json.dumps(scheduler.state_dict(), default=str) == before
    seen: list[list[float]] = [[], []]
    for _ in range(STEPS):
        for row, group in zip(seen, own.param_groups, strict=True):
            row.append(group["lr"])
        own.step()
        scheduler.step()
    assert planned == seen


def test_a_scheduler_that_wants_metrics_has_no_plan() -> None:
    assert rates_of_scheduler(ReduceLROnPlateau(optimizer()), STEPS) is None
    assert rates_of_scheduler(object(), STEPS) is None


def test_long_schedules_are_sampled() -> None:
    steps = 10 * GRID + 3
    scheduler = get_scheduler("cosine", optimizer(), num_warmup_steps=0, num_training_steps=steps)
    planned = rates_of_scheduler(scheduler, steps)
    assert planned is not None and len(planned[0]) == steps
    assert math.fsum(planned[0]) == pytest.approx(0.1 * steps / 2, rel=1e-5)


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize("rounding", ["defer", "keep"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_long_plan_says_what_rounding_leaves(dtype: torch.dtype, rounding: Any) -> None:
    steps = GRID + 1
    whole = -math.expm1(-0.01 * 1e-3 * steps)
    model = block().to(dtype)
    table = categorize(model, torch.randn(3, 4, dtype=dtype))
    rates = [[1e-3] * steps] * 3
    own = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.01, lr=1e-3, table=table, rates=rates[0],
        policy=DecayPolicy(head=1.0, rounding=rounding),
    )  # fmt: skip
    found = plan_decay(own, rates)
    half = dtype != torch.float32
    kept = 0.0 if half else whole
    told = found.doses["1.weight"]
    assert told == pytest.approx(whole if rounding == "defer" else kept, rel=0.02)
    assert found.exact["1.weight"] == pytest.approx(whole, rel=1e-4)
    assert found.doses["1.bias"] == 0.0 and found.coefficients["1.bias"] == 0.0
    (action,) = found.actions(table).values()
    assert action.target == "zero" and not action.coupled
    if half:
        assert action.deferred == (rounding == "defer")


def test_a_plan_says_toward_what_gains_decay() -> None:
    model = block()
    table = categorize(model, torch.randn(3, 4))
    for target in ("zero", "one", "start"):
        policy = DecayPolicy(head=1.0, target=target)  # type: ignore[arg-type]
        own = make_optimizer(
            torch.optim.SGD, model, weight_decay=0.1, lr=0.1, table=table, policy=policy
        )
        (action,) = plan_decay(own, [[0.1] * 5] * len(own.param_groups)).actions(table).values()
        assert (action.target, action.coupled) == (target, True)


def test_a_million_steps_are_planned_in_seconds() -> None:
    steps = 1_000_000
    rates = [1e-6 * (1 - t / steps) for t in range(steps)]
    own = make(torch.optim.AdamW, "all", rates, decay=0.5, dtype=torch.float32)
    before = time.process_time()
    assert plan_decay(own, [rates]).doses["g"] == pytest.approx(0.2212, rel=0.02)
    assert time.process_time() - before < 4


def test_a_step_that_decays_everything_is_refused() -> None:
    model = block()
    table = categorize(model, torch.randn(3, 4))
    own = make_optimizer(
        torch.optim.AdamW, model, weight_decay=20.0, lr=0.1, policy="all", table=table
    )
    with pytest.raises(GammaError, match="more than the whole gain"):
        plan_decay(own, [[0.1]] * len(own.param_groups))


def test_groups_with_other_rates_and_frozen_gains_have_their_own_doses() -> None:
    model = block()
    table = categorize(model, torch.randn(3, 4))
    own = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=1.0, policy="all", table=table
    )
    plan = plan_decay(own, [[1.0], [2.0]])
    assert plan.rate_sum == 1.0 and plan.unknown == ()
    assert plan.doses["1.weight"] == pytest.approx(0.1) and plan.doses["1.bias"] == 0.0
    model[1].weight.requires_grad = False
    own = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=1.0, policy="all", table=table
    )
    assert plan_decay(own, [[1.0], [2.0]]).of_gains(table) == ({"1.weight": 0.0}, {"1.weight": 0.0})
    blind = plan_decay(own, None)
    assert blind.doses["0.weight"] is None and blind.doses["1.bias"] == 0.0
    assert blind.rate_sum is None and ["not known before" in why for why in blind.unknown] == [True]


def test_a_lambda_gives_each_group_its_own_rates() -> None:
    own = optimizer()
    scheduler = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1 / (1 + step))
    assert rates_of_scheduler(scheduler, 2) == [[0.1, 0.05], [0.02, 0.01]]
