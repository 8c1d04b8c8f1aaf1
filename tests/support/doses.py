"""Runs of a real optimizer with zero gradients: the dose told, and the dose achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.decay.deferred import MOVED
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.plan import Plan, plan_decay
from gamma_nlp.decay.step_hook import StepHook
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import gain

SPREAD = (0.3, 0.7, 1.0, 1.05, 1.3, 1.9, 5.0, 30.0) * 4
"""So many that a CPU takes them as one vector: it rounds the last few of a tensor otherwise."""


def gains(values: Any, dtype: torch.dtype, offset: float = 0.0) -> tuple[nn.Module, GainTable]:
    """Return a model with one vector of gains, and its table."""
    model = nn.Module()
    stored = (torch.as_tensor(values, dtype=torch.float64) - offset).to(dtype)
    model.register_parameter("g", nn.Parameter(stored))
    return model, GainTable(gains=(gain("g", Category.BRANCH_INNER, offset=offset),))


def linear(steps: int, peak: float) -> list[float]:
    return [peak * (1 - t / steps) for t in range(steps)]


def make(
    optimizer_class: type,
    policy: Any,
    rates: Sequence[float],
    *,
    decay: float,
    dtype: torch.dtype,
    values: Any = SPREAD,
    offset: float = 0.0,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """Return the optimizer of one vector of gains, planned for these rates."""
    model, table = gains(values, dtype, offset)
    return make_optimizer(
        optimizer_class,
        model,
        weight_decay=decay,
        lr=kwargs.pop("lr", rates[0]),
        policy=policy,
        table=table,
        rates=rates,
        **kwargs,
    )


def displace(optimizer: torch.optim.Optimizer, p: Tensor) -> None:
    """Move gains off their first values, as training would have done it."""
    for hook in optimizer._optimizer_step_pre_hooks.values():
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, StepHook):
            owner.starts[p] = p.detach().clone()
    with torch.no_grad():
        p.copy_(p.double() * (1 + MOVED))


def achieved(
    optimizer: torch.optim.Optimizer,
    rates: Sequence[float],
    *,
    center: float | str = 0.0,
    momenta: Sequence[float] | None = None,
) -> float:
    """Return the part of the distance to ``center`` that the run takes of its one parameter."""
    ((name,),) = (group["param_names"] for group in optimizer.param_groups)
    return achieved_each(optimizer, rates, {name: center}, momenta=momenta)[name]


def achieved_each(
    optimizer: torch.optim.Optimizer,
    rates: Sequence[float],
    centers: Mapping[str, float | str],
    *,
    momenta: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return the part of the distance to its center that the run takes of each parameter."""
    named: dict[str, Tensor] = {
        name: p
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    toward: dict[str, Any] = dict(centers)
    for name, p in named.items():
        p.grad = torch.zeros_like(p)
        if toward[name] == "start":
            toward[name] = p.detach().double().clone()
            displace(optimizer, p)
    before = {name: p.detach().double().clone() for name, p in named.items()}
    for number, lr in enumerate(rates):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
            if momenta is not None and "momentum" in group:
                group["momentum"] = momenta[number]
            elif momenta is not None:
                group["betas"] = (momenta[number], *group["betas"][1:])
        optimizer.step()
    left = {name: (p.detach().double() - toward[name]).abs().sum() for name, p in named.items()}
    return {
        name: float(1 - left[name] / (before[name] - toward[name]).abs().sum()) for name in named
    }


def plan(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> Plan:
    """Return the plan of a run with these rates for every group."""
    return plan_decay(optimizer, [rates] * len(optimizer.param_groups))


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
