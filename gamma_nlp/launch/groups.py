"""The parameter groups of a run that has not begun, of a model without values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.groups import merged_groups, trainable
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.rounding import with_deferral
from gamma_nlp.decay.samples import spread
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """One parameter group.

    Attributes:
        coefficient: Its ``weight_decay``.
        tensors: How many parameters it has.
        elements: How many numbers those are.
        holds: How many tensors of each category and role.
        hook: What the step hook does for it: ``center``, ``all``, ``deferred`` or ``schedule``;
            empty for nothing.
    """

    coefficient: float
    tensors: int
    elements: int
    holds: Mapping[str, int]
    hook: str = ""


def groups_of_run(
    model: nn.Module,
    table: GainTable,
    decays: Mapping[str, Decay],
    *,
    native: Native,
    rates: Sequence[float],
    processes: int,
    dtype: torch.dtype | None = None,
) -> list[dict[str, Any]]:
    """Return the groups that ``make_optimizer`` will make in the run.

    Whether decay is deferred depends on values: processes that do not know one another's take them
    to be spread between 1 and 2, as they do in the run, and a single one takes a gain to be 1.

    Args:
        model: The model, on any device.
        table: Its gain table.
        decays: The decay of each parameter.
        native: The optimizer's own kind.
        rates: The learning rate of every step; empty where no run is planned.
        processes: How many decide, each from the values that it holds.
        dtype: That of the copies which an engine trains, where these are not the parameters.
    """
    named = trainable(model)
    starts = {gain.name: 1.0 - gain.offset for gain in table} if processes == 1 else {}
    alike: dict[tuple[Decay, torch.dtype, float | None], list[str]] = {}
    for name, parameter in named.items():
        alike.setdefault((decays[name], parameter.dtype, starts.get(name)), []).append(name)
    first = {own[0]: _values(key[1], key[2]) for key, own in alike.items()}
    own_decays = {name: decays[name] for name in first}
    told = with_deferral(first, own_decays, native=native, rates=rates, dtype=dtype)
    deferred = dict(decays) | {name: told[own[0]] for own in alike.values() for name in own}
    peak, steps = max(rates, default=0.0), len(rates) or None
    return merged_groups(named, deferred, native=native, peak=peak, steps=steps)


def _values(dtype: torch.dtype, start: float | None) -> nn.Parameter:
    values: Tensor = spread(dtype).values if start is None else torch.tensor([start])
    return nn.Parameter(values.to(dtype), requires_grad=False)


def group_plans(groups: Sequence[Mapping[str, Any]], table: GainTable) -> tuple[GroupPlan, ...]:
    """Return what each group holds."""
    labels = _labels(table)
    return tuple(_group_plan(group, labels) for group in groups)


def _group_plan(group: Mapping[str, Any], labels: Mapping[str, str]) -> GroupPlan:
    holds: dict[str, int] = {}
    for name in group["param_names"]:
        holds[labels[name]] = holds.get(labels[name], 0) + 1
    return GroupPlan(
        coefficient=float(group.get("gamma_base", group["weight_decay"])),
        tensors=len(group["params"]),
        elements=sum(p.numel() for p in group["params"]),
        holds=holds,
        hook=group.get("gamma_part", "schedule" if "gamma_schedule" in group else ""),
    )


def _labels(table: GainTable) -> dict[str, str]:
    plain = plain_names([*(gain.name for gain in table), *table.roles])
    labels = {plain[name]: str(role) for name, role in table.roles.items()}
    return labels | {plain[gain.name]: str(gain.category or "unused") for gain in table}
