from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from gamma_nlp.decay.dose import decay_dose, optimizer_doses
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.precision import lost_to_rounding
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import gain

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def linear(steps: int, peak: float) -> list[float]:
    return [peak * (1 - t / steps) for t in range(steps)]


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


def stand_in(name: str, base: type, **attributes: Any) -> type:
    """A class of that qualified name which steps as ``base`` does."""
    module, _, short = name.rpartition(".")
    return type(short, (base,), {"__module__": module, "__qualname__": short, **attributes})


class HeavyBall(torch.optim.Optimizer):
    """Coupled decay under a momentum that is kept in ``betas``, as in bitsandbytes."""

    def __init__(self, params: Any, lr: float, momentum: float, weight_decay: float = 0.0) -> None:
        betas = (momentum, 0.0)
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                force = p.grad + group["weight_decay"] * p
                old = self.state[p].get("momentum", torch.zeros_like(p))
                self.state[p]["momentum"] = force + group["betas"][0] * old
                p.sub_(group["lr"] * self.state[p]["momentum"])


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


# Last, since it takes longest.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
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
    dtype: torch.dtype, offset: float, cls: type, kwargs: dict, mode: str, weight_decay: float
) -> None:
    model, table = one_gain(dtype, offset)
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
    predicted = optimizer_doses(optimizer, lrs)["g"]
    assert predicted is not None
    # On a CPU torch rounds 1 - lr * lambda to float16 before it multiplies, hence three units.
    digits = {torch.float64: 1e-12, torch.float32: 2e-5}
    tolerance = digits.get(dtype, 3 * torch.finfo(dtype).eps)
    assert achieved(optimizer, lrs, offset) == pytest.approx(predicted, abs=tolerance)
