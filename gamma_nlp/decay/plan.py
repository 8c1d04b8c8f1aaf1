"""Plan a run's decay ahead of time: its learning rates, and what they do to each parameter."""

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
from gamma_nlp.decay.known_optimizers import coefficient_of, unknown_law
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

GRID = 20_000
"""Longer schedules are sampled at this many steps, where a formula gives the rate of each."""

Rates = list[float]


def rates_of_scheduler(scheduler: Any, steps: int, *, most: int = GRID) -> list[Rates] | None:
    """Return the learning rate of every step for each parameter group.

    The scheduler itself is not touched: a throwaway copy runs ahead.

    Args:
        scheduler: Of torch or transformers, wrapped by accelerate or not.
        steps: How many steps to plan.
        most: A ``LambdaLR`` is evaluated at no more than this many steps.

    Returns:
        One list per group; ``None`` for a scheduler that follows metrics, whose future is unknown.
    """
    while not isinstance(scheduler, LRScheduler) and hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler  # inside accelerate's wrapper
    if not isinstance(scheduler, LRScheduler) or _wants_metrics(scheduler):
        return None
    if type(scheduler) is LambdaLR:
        done: dict[tuple[float, Any], Rates] = {}
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            if (float(base), factor) not in done:
                done[float(base), factor] = _sampled(float(base), factor, steps, most)
        keys = zip(map(float, scheduler.base_lrs), scheduler.lr_lambdas, strict=True)
        return [done[key] for key in keys]
    return _run_ahead(scheduler, steps)


def _wants_metrics(scheduler: Any) -> bool:
    needed = inspect.signature(scheduler.step).parameters.values()
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(one.default is one.empty and one.kind not in varying for one in needed)


def _sampled(base: float, factor: Any, steps: int, most: int) -> Rates:
    stride = max(1, math.ceil(steps / most))
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
        warnings.simplefilter("ignore")  # no optimizer steps here, on purpose
        for _ in range(steps):
            for own, group in zip(rates, stand_in.param_groups, strict=True):
                own.append(float(group["lr"]))
            ahead.step()
    return rates


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decay of a planned run.

    Attributes:
        coefficients: By plain parameter name.
        doses: The same; ``None`` where a dose is unknown.
        rate_sum: Sum of the first group's learning rates; ``None`` where it is unknown.
        unknown: Why doses are unknown, each reason once.
    """

    coefficients: Mapping[str, float]
    doses: Mapping[str, float | None]
    rate_sum: float | None
    unknown: tuple[str, ...] = ()

    def of_gains(self, table: GainTable) -> tuple[dict[str, float], dict[str, float | None]]:
        """Return coefficient and dose of each gain; a frozen gain is in no group and has 0, 0."""
        plain = plain_names([*(gain.name for gain in table), *table.roles])
        names = {gain.name: plain[gain.name] for gain in table}
        coefficients = {name: self.coefficients.get(own, 0.0) for name, own in names.items()}
        return coefficients, {name: self.doses.get(own, 0.0) for name, own in names.items()}


def plan_decay(optimizer: Any, rates: Sequence[Rates] | None) -> Plan:
    """Return what an optimizer from this package will do over a run with these learning rates.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`, not wrapped.
        rates: Of every step for each group; ``None`` where they are unknown.
    """
    coefficients: dict[str, float] = {}
    doses: dict[str, float | None] = {}
    by_rates: dict[int, dict[str, float | None]] = {}
    unknown: dict[str, None] = {}
    total = math.fsum(rates[0]) if rates else None
    for index, group in enumerate(optimizer.param_groups):
        own = rates[index] if rates is not None else None
        if own is not None and id(own) not in by_rates:
            by_rates[id(own)] = _doses(optimizer, own)
        decay = coefficient_of(group)
        why = unknown_law(optimizer, group) or (_NO_RATES if decay and own is None else None)
        if why:
            unknown[why] = None
        planned = by_rates.get(id(own), {})
        for name in group["param_names"]:
            coefficients[name] = decay
            doses[name] = planned.get(name) if decay or why else 0.0
    return Plan(coefficients=coefficients, doses=doses, rate_sum=total, unknown=tuple(unknown))


_NO_RATES = "the learning rates are not known before the run: no end, or they follow scores"


def _doses(optimizer: Any, rates: Rates) -> dict[str, float | None]:
    if len(rates) <= GRID:
        return optimizer_doses(optimizer, rates)
    # In a long run only half precision is worth simulating step by step.
    total: Any = math.fsum(rates)
    doses = optimizer_doses(optimizer, total)
    half = {
        name
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
        if p.dtype in (torch.bfloat16, torch.float16)
    }
    if half:
        exact = optimizer_doses(optimizer, rates)
        doses |= {name: exact[name] for name in half}
    return doses
