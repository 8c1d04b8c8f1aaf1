"""Plan a run's decay ahead of time: its learning rates, and what they do to each parameter."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gamma_nlp.decay.dose import NOTHING, Dose
from gamma_nlp.decay.known_optimizers import coefficient_of, mode_of, unknown_law
from gamma_nlp.decay.optimizer_doses import group_doses
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.table import Action, GainTable
from gamma_nlp.wrappers import plain_names

GRID = 20_000
"""Longer schedules are sampled at this many steps, where a formula gives the rate of each."""


class Rates(list[float]):
    """The learning rate of every step; ``momenta`` where a scheduler moves the momentum too."""

    momenta: list[float] | None = None


def rates_of_scheduler(scheduler: Any, steps: int, *, most: int = GRID) -> list[Rates] | None:
    """Return the learning rate of every step for each parameter group.

    The scheduler itself is not touched: a throwaway copy runs ahead.

    Args:
        scheduler: Of torch or transformers, wrapped by accelerate or not.
        steps: How many steps to plan.
        most: A ``LambdaLR`` is evaluated at no more than this many steps.

    Returns:
        One list per group, with the momentum of every step where the scheduler moves it; ``None``
        for a scheduler that follows metrics, whose future is unknown.
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
    rates = Rates()
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
    rates = [Rates() for _ in groups]
    momenta: list[list[float]] = [[] for _ in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer steps here, on purpose
        for _ in range(steps):
            for own, held, group in zip(rates, momenta, stand_in.param_groups, strict=True):
                own.append(float(group["lr"]))
                held.append(_momentum(group))
            ahead.step()
    for own, held in zip(rates, momenta, strict=True):
        own.momenta = held if len(set(held)) > 1 else None
    return rates


def _momentum(group: Mapping[str, Any]) -> float:
    """Return what OneCycleLR and CyclicLR move: the momentum, or the first beta."""
    return float(group["momentum"] if group.get("betas") is None else group["betas"][0])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decay of a planned run.

    Attributes:
        coefficients: By plain parameter name.
        doses: The same; ``None`` where a dose is unknown.
        rate_sum: Sum of the first group's learning rates; ``None`` where it is unknown.
        unknown: Why doses are unknown, each reason once.
        exact: The doses if nothing were rounded, by plain name.
        centers: What each decayed parameter decays toward, by plain name; 0 where it is not in.
        deferred: The plain names of those whose decay is gathered.
        coupled: The plain names of those whose decay is in the gradient.
    """

    coefficients: Mapping[str, float]
    doses: Mapping[str, float | None]
    rate_sum: float | None
    unknown: tuple[str, ...] = ()
    exact: Mapping[str, float | None] = field(default_factory=dict)
    centers: Mapping[str, float | Literal["start"]] = field(default_factory=dict)
    deferred: frozenset[str] = frozenset()
    coupled: frozenset[str] = frozenset()

    def of_gains(self, table: GainTable) -> tuple[dict[str, float], dict[str, float | None]]:
        """Return coefficient and dose of each gain; a frozen gain is in no group and has 0, 0."""
        names = _plain(table)
        coefficients = {name: self.coefficients.get(own, 0.0) for name, own in names.items()}
        return coefficients, {name: self.doses.get(own, 0.0) for name, own in names.items()}

    def actions(self, table: GainTable) -> dict[str, Action]:
        """Return how decay acts on each gain that decays."""
        return {
            gain.name: Action(
                target=target_of(self.centers.get(own, 0.0), gain.offset),
                deferred=own in self.deferred,
                coupled=own in self.coupled,
                exact=self.exact.get(own),
            )
            for gain, own in zip(table, _plain(table).values(), strict=True)
            if self.coefficients.get(own)
        }


def _plain(table: GainTable) -> dict[str, str]:
    plain = plain_names([*(gain.name for gain in table), *table.roles])
    return {gain.name: plain[gain.name] for gain in table}


def target_of(center: float | Literal["start"], offset: float) -> str:
    """Return the word for what a gain decays toward, given the parameter's value there."""
    return center if center == "start" else {0.0: "zero", 1.0: "one"}[center + offset]


def plan_decay(
    optimizer: Any,
    rates: Sequence[Sequence[float]] | None,
    *,
    values: Mapping[str, Tensor] | None = None,
) -> Plan:
    """Return what an optimizer from this package will do over a run with these learning rates.

    Where it holds DTensors, each process has to call this.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`, not wrapped.
        rates: Of every step for each group; ``None`` where they are unknown.
        values: Tensors that stand for the parameters by plain name, in the dtype that is trained,
            where an engine has put flat partitions in their place.

    Raises:
        GammaError: It holds flat partitions, and there are no ``values``.
    """
    groups = [_with_values(group, values) for group in optimizer.param_groups]
    doses: dict[str, Dose] = {}
    tensors: dict[int, Tensor] = {}
    for index, group in enumerate(groups):
        if rates is None:
            decayed = coefficient_of(group) or unknown_law(optimizer, group)
            why = unknown_law(optimizer, group) or _NO_RATES
            one = Dose(told=None, exact=None, why=why) if decayed else NOTHING
            doses |= dict.fromkeys(group["param_names"], one)
            continue
        own = rates[index]
        if id(own) not in tensors:
            tensors[id(own)] = torch.tensor(own, dtype=torch.float64)
        momenta = getattr(own, "momenta", None)
        doses |= group_doses(optimizer, group, tensors[id(own)], momenta)
    decayed_groups = [group for group in groups if coefficient_of(group)]
    known = [group for group in decayed_groups if not unknown_law(optimizer, group)]
    return Plan(
        coefficients={name: coefficient_of(g) for g in groups for name in g["param_names"]},
        doses={name: dose.told for name, dose in doses.items()},
        rate_sum=math.fsum(rates[0]) if rates else None,
        unknown=tuple(dict.fromkeys(dose.why for dose in doses.values() if dose.why)),
        exact={name: dose.exact for name, dose in doses.items()},
        centers={
            name: group["gamma_center"]
            for group in decayed_groups
            if "gamma_center" in group
            for name in group["param_names"]
        },
        deferred=_names(g for g in decayed_groups if g.get("gamma_part") == "deferred"),
        coupled=_names(g for g in known if mode_of(optimizer, g) == "coupled"),
    )


def _with_values(
    group: Mapping[str, Any], values: Mapping[str, Tensor] | None
) -> Mapping[str, Any]:
    names = group["param_names"]
    if values is not None:
        return {**group, "params": [values[name] for name in names]}
    if len(names) != len(group["params"]):
        raise GammaError(
            f"the optimizer holds {listed(names)} in flat partitions (DeepSpeed ZeRO), which have "
            "no values of their own to plan with; call plan_decay before deepspeed.initialize"
        )
    return group


def _names(groups: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(name for group in groups for name in group["param_names"])


_NO_RATES = "the learning rates are not known before the run: no end, or they follow scores"
