"""Told against achieved for every known optimizer that is installed, with its options."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from gamma_nlp.decay.known_optimizers import NATIVE
from gamma_nlp.decay.plan import plan_decay, rates_of_scheduler
from gamma_nlp.decay.policy import DecayPolicy
from tests.support.doses import HeavyBall, achieved, linear, make, plan, stand_in

RATES = linear(60, 1e-2)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "dampening": {"momentum": 0.8, "dampening": 0.5},
    "maximize": {"maximize": True},
    "amsgrad": {"amsgrad": True},
    "tensor lr": {"lr": torch.tensor(1e-2)},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "decoupled": {"decoupled_weight_decay": True},
    "fixed rate": {"relative_step": False, "scale_parameter": False},
}

ADAPTIVE = "divides coupled decay by the size of the gradients"
NO_DOSE = {
    **dict.fromkeys(("Adam", "NAdam", "RAdam"), ADAPTIVE),
    **dict.fromkeys(("RMSprop", "Adagrad", "Adadelta", "Adamax", "RMSprop8bit"), ADAPTIVE),
    **dict.fromkeys(("RMSprop32bit", "Adagrad8bit", "Adagrad32bit"), ADAPTIVE),
    **dict.fromkeys(("Adam8bit", "Adam4bit", "AdamFp8"), ADAPTIVE),
    "ASGD": "shrinks every parameter by its lambd",
}
"""Why these have no dose under their own decay."""


def installed(name: str) -> type | None:
    module, _, short = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), short, None)
    except (ImportError, ValueError):  # fairseq as it is published fails on newer Pythons
        return None


def cases() -> list[Any]:
    found = []
    for name in NATIVE:
        kind = installed(name)
        if kind is None or f"{kind.__module__}.{kind.__qualname__}" != name:
            continue
        takes = inspect.signature(kind).parameters
        for option, kwargs in OPTIONS.items():
            fits = all(key in takes for key in kwargs)
            if fits and not (option == "tensor lr" and not name.startswith("torch.")):
                found.append(pytest.param(kind, kwargs, id=f"{name} {option}"))
    return found


@pytest.mark.parametrize(("kind", "kwargs"), cases())
def test_every_known_optimizer_decays_as_told(kind: type, kwargs: dict[str, Any]) -> None:
    kwargs = {**kwargs}
    if "lr" in kwargs:
        kwargs["lr"] = kwargs["lr"].clone()
        if kind.__name__ not in ("SGD", "Adafactor", "ASGD"):
            kwargs["foreach"] = False  # a tensor needs capturable otherwise
    if kind.__module__.startswith("transformers.") and not kwargs:
        kwargs["lr"] = None  # its own rate, which it insists on
    made = make(kind, "all", RATES, decay=0.5, dtype=torch.float32, **kwargs)
    told = plan(made, RATES)
    why = NO_DOSE.get(kind.__name__)
    if kind.__module__.startswith("bitsandbytes.optim.adam") or kwargs.get(
        "decoupled_weight_decay"
    ):
        why = None
    if kind.__name__ == "Adafactor" and kind.__module__.startswith("transformers."):
        why = None if kwargs.get("relative_step") is False else "makes a learning rate of its own"
    if why:
        assert told.doses == {"g": None} and why in told.unknown[0]
        return
    assert told.unknown == ()
    assert achieved(made, RATES) == pytest.approx(told.doses["g"], rel=0.02)
    assert told.doses["g"] > 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_no_dose_is_told_where_the_optimizer_stands_still(dtype: torch.dtype) -> None:
    """torch's fused SGD on a CPU does: the day it moves, it has a dose again."""
    rates = [1e-2] * 100
    made = make(torch.optim.SGD, "all", rates, decay=0.5, dtype=dtype, fused=True)
    told = plan(made, rates)
    assert told.doses == {"g": None} and "fused SGD" in told.unknown[0]
    assert achieved(made, rates) == 0.0
    hooked = DecayPolicy(mode="decoupled")
    made = make(torch.optim.SGD, hooked, rates, decay=0.5, dtype=dtype, fused=True)
    assert achieved(made, rates) == pytest.approx(plan(made, rates).doses["g"], rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [10, 100])
def test_momentum_starts_from_nothing(steps: int, dtype: torch.dtype) -> None:
    rates = [1e-3] * steps
    policy = DecayPolicy(branch_inner=1.0)
    made = make(torch.optim.SGD, policy, rates, decay=0.5, dtype=dtype, momentum=0.9)
    told = plan(made, rates).doses["g"]
    assert told is not None
    assert achieved(made, rates) == pytest.approx(told, rel=0.02)
    if dtype == torch.float32:
        whole = 0.5 * 1e-2 * steps  # as if the momentum had been there from the start
        assert told == pytest.approx({10: 0.41, 100: 0.9}[steps] * whole, rel=0.2)


@pytest.mark.parametrize("cycle", ["one", "cyclic"])
def test_cycled_momentum_is_planned(cycle: str) -> None:
    steps = 200
    made = make(
        torch.optim.SGD, "all", [0.1] * steps, decay=0.05, dtype=torch.float32, momentum=0.9
    )
    if cycle == "one":
        scheduler: Any = OneCycleLR(made, max_lr=0.1, total_steps=steps + 1)
    else:
        scheduler = CyclicLR(made, 1e-3, 0.1, step_size_up=40, base_momentum=0.5)
    rates = rates_of_scheduler(scheduler, steps)
    assert rates is not None and rates[0].momenta is not None
    assert min(rates[0].momenta) < max(rates[0].momenta)
    told = plan_decay(made, rates).doses["g"]
    assert achieved(made, rates[0], momenta=rates[0].momenta) == pytest.approx(told, rel=0.02)


@pytest.mark.parametrize("bits", ["", "8bit", "32bit"])
def test_bitsandbytes_keeps_the_momentum_of_sgd_in_betas(bits: str) -> None:
    kind = stand_in(f"bitsandbytes.optim.sgd.SGD{bits}", HeavyBall)
    rates = [1e-2] * 300
    made = make(kind, "all", rates, decay=0.1, dtype=torch.float32, momentum=0.9)
    told = plan(made, rates).doses["g"]
    assert achieved(made, rates) == pytest.approx(told, rel=0.02) and told > 0.8


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [
        ("Lion", "0.49.2", ADAPTIVE),
        ("PagedLion32bit", "0.48.0", ADAPTIVE),
        ("Lion8bit", "0.49.2", "tensors of fewer than 4096 elements by another law"),
        ("Lion", "0.50.0", None),
        ("PagedLion8bit", "0.50.2", None),
    ],
)
def test_lion_of_bitsandbytes_was_coupled_once(
    name: str, version: str, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    kind = stand_in(f"bitsandbytes.optim.lion.{name}", torch.optim.AdamW)
    made = make(kind, "all", RATES, decay=0.5, dtype=torch.float32)
    told = plan(made, RATES)
    if why is None:
        assert achieved(made, RATES) == pytest.approx(told.doses["g"], rel=0.02)
    else:
        assert told.doses == {"g": None} and why in told.unknown[0]


def test_long_coupled_runs_with_momentum_in_half_precision_have_no_dose() -> None:
    rates = [1e-5] * 20_001
    made = make(torch.optim.SGD, "all", rates, decay=0.1, dtype=torch.bfloat16, momentum=0.9)
    told = plan(made, rates)
    assert told.doses == {"g": None} and "20,000 steps" in told.unknown[0]
