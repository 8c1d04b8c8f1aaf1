"""What a Trainer run says about its decay: coefficients, planned doses, norms of the gains."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gamma_nlp.decay.dose import optimizer_doses
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

GRID = 20_000
"""Schedules with more steps are sampled at this many points."""

Rates = list[float]


def planned_rates(scheduler: Any, steps: int) -> list[Rates] | None:
    """Return the learning rates of all steps for each parameter group.

    The scheduler itself is not touched: a throwaway copy runs ahead. ``None`` for a scheduler
    that looks at metrics, since its future is not known.
    """
    while not isinstance(scheduler, LRScheduler) and hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler  # inside accelerate's wrapper
    if not isinstance(scheduler, LRScheduler) or _wants_metrics(scheduler):
        return None
    if type(scheduler) is LambdaLR:
        done: dict[tuple[float, Any], Rates] = {}
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            if (float(base), factor) not in done:
                done[float(base), factor] = _sampled(float(base), factor, steps)
        keys = zip(map(float, scheduler.base_lrs), scheduler.lr_lambdas, strict=True)
        return [done[key] for key in keys]
    return _run_ahead(scheduler, steps)


def _wants_metrics(scheduler: Any) -> bool:
    needed = inspect.signature(scheduler.step).parameters.values()
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(one.default is one.empty and one.kind not in varying for one in needed)


def _sampled(base: float, factor: Any, steps: int) -> Rates:
    stride = max(1, math.ceil(steps / GRID))
    rates: Rates = []
    for start in range(0, steps, stride):
        length = min(stride, steps - start)
        rates += [base * float(factor(start + length // 2))] * length
    return rates


def _run_ahead(scheduler: LRScheduler, steps: int) -> list[Rates]:
    groups = [
        {**{k: copy.copy(v) for k, v in group.items() if k != "params"}, "params": [torch.zeros(1)]}
        for group in scheduler.optimizer.param_groups
    ]
    stand_in = torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in groups], lr=0.0)
    for bare, group in zip(stand_in.param_groups, groups, strict=True):
        bare.update(group)
    ahead = copy.deepcopy(scheduler, {id(scheduler.optimizer): stand_in})
    rates: list[Rates] = [[] for _ in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer steps here is on purpose
        for _ in range(steps):
            for own, group in zip(rates, stand_in.param_groups, strict=True):
                own.append(float(group["lr"]))
            ahead.step()
    return rates


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decay of a planned run: by plain parameter name, ``None`` where a dose is unknown."""

    coefficients: Mapping[str, float]
    doses: Mapping[str, float | None]
    rate_sum: float | None
    """Sum of the learning rates of the first group; ``None`` where it is not known."""


def plan(optimizer: Any, rates: Sequence[Rates] | None, native_decay: str | None) -> Plan:
    """Return what an optimizer made by this library will do over a run with these rates."""
    coefficients: dict[str, float] = {}
    doses: dict[str, float | None] = {}
    by_rates: dict[int, dict[str, float | None]] = {}
    total = math.fsum(rates[0]) if rates else None
    try:
        native_mode(type(optimizer), optimizer.param_groups[0], native_decay)
    except GammaError:
        rates = None  # the user told make_optimizer what this class does, but not the trainer
    for index, group in enumerate(optimizer.param_groups):
        own = rates[index] if rates is not None else None
        if own is not None and id(own) not in by_rates:
            by_rates[id(own)] = _doses(optimizer, own, native_decay)
        decay = float(group.get("gamma_decay") or group.get("weight_decay", 0.0))
        for name in group["param_names"]:
            coefficients[name] = decay
            doses[name] = 0.0 if decay == 0 else None
            if own is not None:
                doses[name] = by_rates[id(own)][name]
    return Plan(coefficients=coefficients, doses=doses, rate_sum=total)


def _doses(optimizer: Any, rates: Rates, native_decay: str | None) -> dict[str, float | None]:
    if len(rates) <= GRID:
        return optimizer_doses(optimizer, rates, native_decay=native_decay)
    # In a long run only half precision is worth going through every step.
    total: Any = math.fsum(rates)
    doses = optimizer_doses(optimizer, total, native_decay=native_decay)
    half = {
        name
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
        if p.dtype in (torch.bfloat16, torch.float16)
    }
    if half:
        exact = optimizer_doses(optimizer, rates, native_decay=native_decay)
        doses |= {name: exact[name] for name in half}
    return doses


def for_table(table: GainTable, plan: Plan) -> tuple[dict[str, float], dict[str, float | None]]:
    """Coefficient and dose of each gain; a frozen gain is in no group and has 0 and 0."""
    plain = plain_names([*(gain.name for gain in table), *table.roles])
    names = {gain.name: plain[gain.name] for gain in table}
    coefficients = {name: plan.coefficients.get(own, 0.0) for name, own in names.items()}
    return coefficients, {name: plan.doses.get(own, 0.0) for name, own in names.items()}
