"""Give each parameter of a model its decay: what a gain table and a policy say together."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from gamma_nlp.decay.effect import decayed_gains
from gamma_nlp.decay.policies.keys import NORMALIZED, Mode, Native, Rounding
from gamma_nlp.decay.policy import DecayPolicy, PolicyLike
from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.errors import GammaError, close_to, listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.peer_rules import spared_by
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.wrappers import plain_names

LITTLE_LOST, MOST_LOST = 0.02, 0.5
"""What rounding may take of the dose of a gain; and of that of a weight, which decays as the stock
optimizer does it, up to a few per cent, unless rounding would cancel most of it."""


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The decay of one parameter: ``coefficient`` times ``(w - center)``, applied as ``mode``.

    Attributes:
        coefficient: The largest, before any schedule.
        center: The value of the parameter that decay leaves alone; ``start`` for the one that it
            had when training began. A gain of 1 + parameter that decays toward gain 0 has -1.
        mode: How it acts.
        schedule: How the coefficient moves over the run.
        rounding: Whether decay that rounding would cancel is gathered.
        tolerated: The part of the dose that rounding may take or add before it is.
        share: Where it is gathered: how much is applied at once, as a share of the distance to
            the center. 0 where it is not gathered.
    """

    coefficient: float
    center: float | Literal["start"] = 0.0
    mode: Mode = "native"
    schedule: Schedule = LR
    rounding: Rounding = "defer"
    tolerated: float = LITTLE_LOST
    share: float = 0.0

    def mode_in(self, native: Native) -> Native:
        """Return how it acts in an optimizer whose own kind of decay is ``native``."""
        return native if self.mode == "native" else self.mode


def assign(
    table: GainTable,
    policy: DecayPolicy,
    weight_decay: float,
    *,
    trained: Collection[str] | None = None,
    spared: Collection[str] | None = None,
) -> dict[str, Decay]:
    """Return the decay of every parameter in ``table``.

    Args:
        table: Category of every gain, role of every other parameter.
        policy: Multipliers and mode.
        weight_decay: The coefficient that a multiplier of 1 stands for.
        trained: The names in ``table`` that are not frozen; ``None`` for all of them.
        spared: What :func:`spared_in` returns, for a policy with another library's rule.

    Raises:
        GammaError: ``weight_decay`` negative or not finite, or 0 where the policy would decay a
            gain that is trained; a pattern of the policy that matches no parameter.
    """
    _check_weight_decay(weight_decay)
    if weight_decay == 0 and (stopped := decayed_gains(policy, table, trained, spared)):
        raise GammaError(
            f"policy {policy.name!r} decays gains ({listed(stopped)}), but weight_decay is 0 (the "
            "default of TrainingArguments), so nothing would decay; set weight_decay, for example "
            "to 0.01, or use the policy 'none'"
        )
    parameters: dict[str, Any] = {gain.name: gain for gain in table} | dict(table.roles)
    for pattern in policy.name_patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise GammaError(
                f"policy {policy.name!r}: pattern {pattern!r} matches no parameter"
                + close_to(pattern.replace("*", ""), parameters, most=3)
            )
    if NORMALIZED in policy.schedules and table.normalized is None:
        raise GammaError(
            f"policy {policy.name!r}: schedules[{NORMALIZED!r}] needs to know which weights a norm "
            "follows, and this gain table does not say; make it with categorize(model, inputs, "
            "method='graph')"
        )
    return {
        name: Decay(
            coefficient=weight_decay * policy.multiplier(name, what, spared),
            center=_center(policy, name, what),
            mode=policy.mode,
            schedule=policy.schedule_of(name, what, normalized=name in (table.normalized or ())),
            rounding=policy.rounding,
            tolerated=MOST_LOST if what in (Role.WEIGHT, Role.EMBEDDING) else LITTLE_LOST,
        )
        for name, what in parameters.items()
    }


def _center(policy: DecayPolicy, name: str, what: Gain | Role) -> float | Literal["start"]:
    target = policy.target_of(name, what)
    if target == "start":
        return "start"
    if target == "stored":
        return 0.0
    return float(target == "one") - (what.offset if isinstance(what, Gain) else 0.0)


def _check_weight_decay(weight_decay: float) -> None:
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, (int, float)):
        raise GammaError(f"weight_decay must be a number >= 0, got {weight_decay!r}")
    if not math.isfinite(weight_decay) or weight_decay < 0:
        raise GammaError(f"weight_decay must be finite and >= 0, got {weight_decay!r}")


def table_for(
    model: nn.Module, inputs: Any, table: GainTable | None, policy: PolicyLike = "none"
) -> GainTable:
    """Return ``table``, or that of ``model``, with all that a policy asks for.

    A name table does not say which weights a norm follows; where the policy asks for them, one
    forward pass does.

    Raises:
        GammaError: ``table`` is something else; whatever :func:`categorize` refuses.
    """
    if not isinstance(table, GainTable | None):
        raise GammaError(
            f"table must be the GainTable that categorize returns, not a {type(table).__name__}"
        )
    policy = DecayPolicy.load(policy)
    table = categorize(model, inputs) if table is None else table
    if NORMALIZED not in policy.schedules or table.normalized is not None:
        return table
    try:
        followed = categorize(model, inputs, method="graph").normalized or frozenset()
    except GammaError as error:
        raise GammaError(
            f"policy {policy.name!r}: schedules[{NORMALIZED!r}] needs a forward pass, to see which "
            f"weights a norm follows: {error}"
        ) from error
    names = names_in(table, model)
    return replace(table, normalized=frozenset(names[n] for n in followed if n in names))


def decays_for(
    model: nn.Module, *, weight_decay: float, policy: PolicyLike, table: GainTable
) -> dict[str, Decay]:
    """Return what :func:`assign` returns, by the names that ``model`` has now.

    A table made before the model was wrapped (data parallel, compile) still fits it.

    Raises:
        GammaError: A trainable parameter is not in the table; whatever :func:`assign` refuses.
    """
    listed_as = all_names_in(table, model)
    policy = DecayPolicy.load(policy)
    trained, spared = trained_in(table, model), spared_in(policy, table, model)
    assigned = assign(table, policy, weight_decay, trained=trained, spared=spared)
    return {name: assigned[own] for name, own in listed_as.items()}


def trained_in(table: GainTable, model: nn.Module) -> set[str]:
    """Return the names that ``table`` has for the trainable parameters of ``model``."""
    names = names_in(table, model)
    return {names[n] for n, p in model.named_parameters() if p.requires_grad and n in names}


def spared_in(policy: DecayPolicy, table: GainTable, model: nn.Module) -> frozenset[str] | None:
    """Return the names that ``table`` has for what another library's rule spares in ``model``.

    ``None`` where the policy follows no such rule.

    Raises:
        GammaError: The rule cannot be asked; see :func:`gamma_nlp.gains.peer_rules.spared_by`.
    """
    if policy.rule == "position":
        return None
    names = names_in(table, model)
    return frozenset(names[name] for name in spared_by(policy.rule, model) if name in names)


def all_names_in(table: GainTable, model: nn.Module) -> dict[str, str]:
    """Return what :func:`names_in` returns, for a table that knows all that trains.

    Raises:
        GammaError: A trainable parameter is not in the table.
    """
    found = names_in(table, model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in found:
            raise GammaError(
                f"parameter {name!r} is not in the gain table, which is of another model; make "
                "it from this one: table=categorize(model)"
            )
    return found


def names_in(table: GainTable, model: nn.Module) -> dict[str, str]:
    """Map the names of ``model``, wrapped or not, to those in ``table``."""
    in_table = {*(gain.name for gain in table), *table.roles}
    by_plain_name = {plain: name for name, plain in plain_names(in_table).items()}
    own = plain_names(name for name, _ in model.named_parameters())
    found = {name: name if name in in_table else by_plain_name.get(own[name]) for name in own}
    return {name: known for name, known in found.items() if known is not None}
