from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.optimizer_doses import optimizer_doses
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.doses import HeavyBall, achieved_each, linear, stand_in
from tests.support.optim_models import gain

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def one_gain(dtype: torch.dtype, offset: float) -> tuple[nn.Module, GainTable]:
    model = nn.Module()
    model.register_parameter("g", nn.Parameter(torch.full((3,), 1.0 - offset, dtype=dtype)))
    return model, GainTable(gains=(gain("g", Category.BRANCH_INNER, offset=offset),))


def achieved(optimizer: torch.optim.Optimizer, lrs: list[float], offset: float) -> float:
    (p,) = optimizer.param_groups[0]["params"]
    for lr in lrs:
        p.grad = torch.zeros_like(p)  # zero, not missing
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    return 1 - (offset + p[0].item())


def test_momentum_divides_the_sum_for_coupled_sgd() -> None:
    model, table = one_gain(torch.float64, 0.0)
    optimizer = make_optimizer(
        torch.optim.SGD,
        model,
        weight_decay=0.01,
        lr=1e-2,
        momentum=0.9,
        policy=DecayPolicy(mode="coupled"),
        table=table,
    )
    lrs = [1e-2] * 3000
    predicted = optimizer_doses(optimizer, lrs)["g"]
    assert predicted == pytest.approx(-math.expm1(-0.01 * 30 / 0.1), rel=2e-3)
    assert achieved(optimizer, lrs, 0.0) == pytest.approx(predicted, rel=1e-2)


class Averaged(torch.optim.SGD):
    """What is decayed here is not what remains: half of it is the value before."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        before = [p.clone() for group in self.param_groups for p in group["params"]]
        super().step(closure)
        for p, old in zip((p for g in self.param_groups for p in g["params"]), before, strict=True):
            p.lerp_(old, 0.5)


class Renamed(torch.optim.AdamW):
    """Changes nothing, but a subclass may."""


@pytest.mark.parametrize(
    ("cls", "kwargs", "policy", "why"),
    [
        (Averaged, {"native_decay": "coupled"}, "all", "Averaged is not among"),
        (Averaged, {"native_decay": "decoupled"}, "all", "Averaged is not among"),
        (Renamed, {"native_decay": "decoupled"}, "all", "Renamed is not among"),
        (torch.optim.ASGD, {}, "all", "shrinks every parameter by its lambd=0.0001"),
        (torch.optim.Adam, {}, DecayPolicy(mode="coupled"), "by the size of the gradients"),
        (torch.optim.Adagrad, {}, DecayPolicy(mode="coupled"), "by the size of the gradients"),
        (Adafactor, {"relative_step": False}, "all", "makes a learning rate of its own"),
        (Adafactor, {"scale_parameter": False}, "all", "makes a learning rate of its own"),
    ],
)
def test_no_dose_where_the_law_is_not_known(
    cls: type, kwargs: dict, policy: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, table = one_gain(torch.float32, 0.0)
    lr = None if cls is Adafactor and "relative_step" not in kwargs else 1e-2
    optimizer = make_optimizer(
        cls, model, weight_decay=0.1, lr=lr, policy=policy, table=table, **kwargs
    )
    plan = plan_decay(optimizer, [[1e-2] * 5])
    assert plan.doses == {"g": None} and plan.coefficients == {"g": 0.1}
    (told,) = plan.unknown
    assert why in told


def test_a_gain_without_decay_has_dose_zero_under_any_law() -> None:
    model, table = one_gain(torch.float32, 0.0)
    optimizer = make_optimizer(
        Averaged, model, weight_decay=0.1, lr=0.1, policy="none", table=table,
        native_decay="coupled",
    )  # fmt: skip
    for rates in ([[0.1] * 5], None):
        plan = plan_decay(optimizer, rates)
        assert plan.doses == {"g": 0.0} and plan.unknown == ()


def test_another_shrinkage_is_told_where_the_policy_decays_nothing() -> None:
    model, table = one_gain(torch.float64, 0.0)
    optimizer = make_optimizer(
        torch.optim.ASGD, model, weight_decay=0.1, lr=0.1, policy="none", table=table, lambd=0.5
    )
    plan = plan_decay(optimizer, [[0.1] * 5])
    assert plan.doses == {"g": None} and "lambd=0.5" in plan.unknown[0]
    assert achieved(optimizer, [0.1] * 5, 0.0) > 0.1


@pytest.mark.parametrize("dampening", [0.0, 0.5])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_momentum_and_dampening_are_those_of_the_run(momentum: float, dampening: float) -> None:
    model, table = one_gain(torch.float64, 0.0)
    optimizer = make_optimizer(
        torch.optim.SGD,
        model,
        weight_decay=0.01,
        lr=1e-2,
        momentum=momentum,
        dampening=dampening,
        policy=DecayPolicy(mode="coupled"),
        table=table,
    )
    lrs = [1e-2] * 2000
    predicted = optimizer_doses(optimizer, lrs)["g"]
    assert achieved(optimizer, lrs, 0.0) == pytest.approx(predicted, rel=2e-2)


@pytest.mark.parametrize("bits", ["", "8bit", "32bit"])
def test_momentum_of_bitsandbytes_is_read_where_it_is(bits: str) -> None:
    model, table = one_gain(torch.float64, 0.0)
    optimizer = make_optimizer(
        stand_in(f"bitsandbytes.optim.sgd.SGD{bits}", HeavyBall),
        model,
        weight_decay=0.01,
        lr=1e-2,
        momentum=0.9,
        policy=DecayPolicy(mode="coupled"),
        table=table,
    )
    lrs = [1e-2] * 2000
    predicted = optimizer_doses(optimizer, lrs)["g"]
    assert predicted == pytest.approx(-math.expm1(-2.0), rel=1e-2)
    assert achieved(optimizer, lrs, 0.0) == pytest.approx(predicted, rel=2e-2)


@pytest.mark.parametrize(("decoupled", "dose"), [(None, 0.05), (True, 0.05), (False, None)])
def test_apex_tells_its_mode_by_an_attribute(decoupled: bool | None, dose: float | None) -> None:
    model, table = one_gain(torch.float64, 0.0)
    attributes = {} if decoupled is None else {"adam_w_mode": decoupled}
    kind = stand_in("apex.optimizers.fused_adam.FusedAdam", torch.optim.SGD, **attributes)
    # A fused Adam keeps the flag on itself and not in its groups.
    optimizer = make_optimizer(kind, model, weight_decay=0.5, lr=0.1, policy="all", table=table)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert optimizer_doses(optimizer, [0.1])["g"] == (dose and pytest.approx(dose))


def test_two_dtypes_in_one_group_have_two_doses() -> None:
    model = nn.Module()
    for name, dtype in (("a", torch.float32), ("b", torch.bfloat16), ("c", torch.float8_e5m2)):
        model.register_parameter(name, nn.Parameter(torch.ones(3).to(dtype)))
    table = GainTable(gains=tuple(gain(name, Category.HEAD) for name in "abc"))
    optimizer = make_optimizer(
        torch.optim.SGD, model, weight_decay=0.01, lr=0.1, policy=DecayPolicy(head=1.0), table=table
    )
    assert len(optimizer.param_groups) == 1
    doses = optimizer_doses(optimizer, [0.1] * 10)
    assert doses == {"a": pytest.approx(0.01, rel=0.01), "b": 0.0, "c": None}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("cls", "kwargs", "mode"),
    [
        (torch.optim.AdamW, {"foreach": True}, "decoupled"),
        (torch.optim.AdamW, {"fused": True}, "decoupled"),
        (torch.optim.Adam, {}, "decoupled"),
        (torch.optim.SGD, {}, "decoupled"),
        (torch.optim.SGD, {"momentum": 0.9}, "decoupled"),
        (torch.optim.SGD, {}, "coupled"),
    ],
)
@pytest.mark.parametrize("weight_decay", [0.05, 2.0])
def test_achieved_dose_is_the_predicted_one(
    dtype: torch.dtype, cls: type, kwargs: dict, mode: str, weight_decay: float
) -> None:
    centers = {"plain": 0.0, "shifted": -1.0}  # where gain 0 is stored
    model = nn.ParameterDict(
        {name: nn.Parameter(torch.full((3,), 1.0 + c, dtype=dtype)) for name, c in centers.items()}
    )
    inner = Category.BRANCH_INNER
    table = GainTable(gains=tuple(gain(name, inner, offset=-c) for name, c in centers.items()))
    if cls is not torch.optim.SGD:
        kwargs = {**kwargs, "eps": 1e-4}  # 1e-8 is 0 in float16, and 0 / 0 no number
    optimizer = make_optimizer(
        cls,
        model,
        weight_decay=weight_decay,
        lr=1e-2,
        policy=DecayPolicy(mode=mode),  # type: ignore[arg-type]
        table=table,
        **kwargs,
    )
    lrs = linear(200, 1e-2)
    predicted = optimizer_doses(optimizer, lrs)
    assert None not in predicted.values()
    # On a CPU torch rounds 1 - lr * lambda to float16 before it multiplies, hence three units.
    digits = {torch.float64: 1e-12, torch.float32: 2e-5}
    tolerance = digits.get(dtype, 3 * torch.finfo(dtype).eps)
    found = achieved_each(optimizer, lrs, centers)
    assert found == pytest.approx(predicted, abs=tolerance)
