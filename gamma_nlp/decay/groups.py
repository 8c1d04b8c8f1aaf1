"""Turn a gain table and a policy into the fewest parameter groups that express them."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from gamma_nlp.decay.effect import decayed_gains, say_without_effect
from gamma_nlp.decay.policy import NORMALIZED, DecayPolicy, Mode, Native, Rounding
from gamma_nlp.decay.schedule import LR, RAMPS, Schedule
from gamma_nlp.errors import GammaError, close_to, listed
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.peer_rules import spared_by
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import plain_names

PolicyLike = str | os.PathLike[str] | DecayPolicy


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
        share: Where it is gathered: how much is applied at once, as a share of the distance to
            the center. 0 where it is not gathered.
    """

    coefficient: float
    center: float | Literal["start"] = 0.0
    mode: Mode = "native"
    schedule: Schedule = LR
    rounding: Rounding = "defer"
    share: float = 0.0


@renamed_arguments(example_inputs="inputs")
def param_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups for any optimizer, whose own kind of weight decay they use.

    Every trainable parameter is in exactly one group, tied ones once; frozen ones are in none.
    Parameters with equal decay share a group, so there are as few groups as possible.

    Args:
        model: The model to train.
        weight_decay: The coefficient that the policy multiplies.
        policy: A preset's name, a file, or a :class:`DecayPolicy`.
        inputs: Example inputs for :func:`categorize`, where it cannot make them itself.
        table: The model's gain table, if you have it already.

    Returns:
        Dicts with ``params``, ``param_names`` (same order) and ``weight_decay``.

    Raises:
        GammaError: The policy asks for what plain groups cannot express (a kind of decay that is
            not the optimizer's, a target other than parameter 0, such as that of a gain stored as
            1 + weight, or a schedule): use :func:`make_optimizer`.

    Example:
        The gain of this norm comes before the output, so ``guidelines`` spares it:

        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp import DecayPolicy, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> x = torch.randn(3, 4)
        >>> for group in param_groups(model, weight_decay=0.1, inputs=x):
        ...     print(group["weight_decay"], *group["param_names"])
        0.1 0.weight 2.weight
        0.0 0.bias 1.weight 1.bias 2.bias

        In a residual network of your own, the gain of a pre-norm branch decays:

        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return x + self.linear(self.norm(x))
        >>> model = nn.Sequential(Block(), nn.LayerNorm(4))
        >>> for group in param_groups(model, weight_decay=0.1, inputs=x):
        ...     print(group["weight_decay"], *group["param_names"])
        0.1 0.norm.weight 0.linear.weight
        0.0 0.norm.bias 0.linear.bias 1.weight 1.bias

        A policy of your own sets a number per category, kind or name:

        >>> policy = DecayPolicy(branch_inner=0.5, patterns={"1.*": 0.25})
        >>> groups = param_groups(model, weight_decay=0.1, policy=policy, inputs=x)
        >>> [group["weight_decay"] for group in groups]
        [0.05, 0.0, 0.1, 0.025]
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    table = table_for(model, inputs, table, policy)
    decays = decays_for(model, weight_decay=weight_decay, policy=policy, table=table)
    named = trainable(model)
    decayed = {name: decays[name] for name in named if decays[name].coefficient > 0}
    _need_plain([n for n, d in decayed.items() if d.mode == "coupled"], "mode 'coupled'")
    _need_plain([n for n, d in decayed.items() if d.schedule != LR], "a schedule")
    _need_plain([n for n, d in decayed.items() if d.center == "start"], "the target 'start'")
    _need_plain(
        [n for n, d in decayed.items() if d.center],
        "decay toward anything but parameter 0, as for a gain that is 1 + weight",
    )
    policy = DecayPolicy.load(policy)
    spared = spared_in(policy, table, model)
    say_without_effect(policy, table, trained_in(table, model), spared)
    return merged_groups(named, decays, native="decoupled")


def _need_plain(names: Sequence[str], what: str) -> None:
    if names:
        raise GammaError(
            f"{listed(names)}: plain parameter groups cannot express {what}; use "
            "gamma_nlp.make_optimizer(optimizer_class, model, ...)"
        )


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
    names = _names_in(table, model)
    return replace(table, normalized=frozenset(names[n] for n in followed if n in names))


def decays_for(
    model: nn.Module, *, weight_decay: float, policy: PolicyLike, table: GainTable
) -> dict[str, Decay]:
    """Return what :func:`assign` returns, by the names that ``model`` has now.

    A table made before the model was wrapped (data parallel, compile) still fits it.

    Raises:
        GammaError: A trainable parameter is not in the table; whatever :func:`assign` refuses.
    """
    listed_as = _names_in(table, model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in listed_as:
            raise GammaError(
                f"parameter {name!r} is not in the gain table, which is of another model; make "
                "it from this one: table=categorize(model)"
            )
    policy = DecayPolicy.load(policy)
    trained, spared = trained_in(table, model), spared_in(policy, table, model)
    assigned = assign(table, policy, weight_decay, trained=trained, spared=spared)
    return {name: assigned[own] for name, own in listed_as.items()}


def trained_in(table: GainTable, model: nn.Module) -> set[str]:
    """Return the names that ``table`` has for the trainable parameters of ``model``."""
    names = _names_in(table, model)
    return {names[n] for n, p in model.named_parameters() if p.requires_grad and n in names}


def spared_in(policy: DecayPolicy, table: GainTable, model: nn.Module) -> frozenset[str] | None:
    """Return the names that ``table`` has for what another library's rule spares in ``model``.

    ``None`` where the policy follows no such rule.

    Raises:
        GammaError: The rule cannot be asked; see :func:`gamma_nlp.gains.peer_rules.spared_by`.
    """
    if policy.rule == "position":
        return None
    names = _names_in(table, model)
    return frozenset(names[name] for name in spared_by(policy.rule, model) if name in names)


def _names_in(table: GainTable, model: nn.Module) -> dict[str, str]:
    """Map the names of ``model``, wrapped or not, to those in ``table``."""
    in_table = {*(gain.name for gain in table), *table.roles}
    by_plain_name = {plain: name for name, plain in plain_names(in_table).items()}
    own = plain_names(name for name, _ in model.named_parameters())
    found = {name: name if name in in_table else by_plain_name.get(own[name]) for name in own}
    return {name: known for name, known in found.items() if known is not None}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name, each once, in the model's order.

    Raises:
        GammaError: There is none.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise GammaError("the model has no trainable parameter; set requires_grad on some")
    return named


def merged_groups(
    named: Mapping[str, nn.Parameter],
    decays: Mapping[str, Decay],
    *,
    native: Native,
    peak: float = 0.0,
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Return the fewest groups for an optimizer whose own decay is ``native``.

    ``weight_decay`` is the coefficient of every group. Where the optimizer cannot do all of it,
    the group has keys for the step hook, see :mod:`.step_hook`. Small tensors stand together at
    the end of a group: between large ones they break up the calls of multi-tensor kernels.

    Args:
        named: The parameters.
        decays: The decay of each.
        native: The optimizer's own kind.
        peak: The largest learning rate of the run, for schedules.
        steps: Optimizer steps of the run, if they are known.

    Raises:
        GammaError: A ramp without steps, or a constant schedule in the gradient.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    plain = plain_names(decays)
    for name in sorted(named, key=lambda name: named[name].numel() < SMALL):
        keys = _group_keys(name, decays[name], native, peak, steps)
        group = groups.setdefault(tuple(keys.items()), {"params": [], "param_names": [], **keys})
        group["params"].append(named[name])
        group["param_names"].append(plain[name])
    order = {plain[name]: number for number, name in enumerate(named)}
    result = sorted(
        groups.values(), key=lambda group: min(order[name] for name in group["param_names"])
    )
    ids = [id(parameter) for group in result for parameter in group["params"]]
    assert len(ids) == len(set(ids)) == len(named), "a parameter must be in exactly one group"
    return result


SMALL = 65_536
"""Tensors with fewer elements fill less than one block of a multi-tensor kernel."""


def _group_keys(
    name: str, decay: Decay, native: Native, peak: float, steps: int | None
) -> dict[str, Any]:
    """Return the decay keys of a group: the coefficient, and what the step hook reads."""
    keys: dict[str, Any] = {"weight_decay": decay.coefficient}
    if decay.coefficient == 0:
        return keys
    mode = native if decay.mode == "native" else decay.mode
    part = "deferred" if decay.share else "center" if mode == native else "all"
    if part != "center" or decay.center:
        keys |= {"gamma_part": part, "gamma_mode": mode, "gamma_center": decay.center}
    if decay.share:
        keys |= {"gamma_share": decay.share, "gamma_last": steps or 0}
    schedule = decay.schedule
    if schedule == LR:
        return keys
    if schedule.kind == "constant" and mode == "coupled":
        raise GammaError(
            f"{name}: a constant schedule divides by the learning rate, and inside the gradient "
            "that would pass through the optimizer's momentum; use mode 'decoupled'"
        )
    ramp = schedule.kind in RAMPS
    length = (schedule.steps or steps) if ramp else steps
    if ramp and not length:
        raise GammaError(
            f"{name}: schedule {schedule.kind!r} needs the number of optimizer steps; write "
            f"{{kind: {schedule.kind}, steps: ...}} in the policy, or pass rates= to make_optimizer"
        )
    keys |= {"gamma_schedule": schedule.kind, "gamma_base": decay.coefficient}
    keys |= {"gamma_peak": peak, "gamma_end": float(schedule.end), "gamma_steps": length or 0}
    return keys


def _check_weight_decay(weight_decay: float) -> None:
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, (int, float)):
        raise GammaError(f"weight_decay must be a number >= 0, got {weight_decay!r}")
    if not math.isfinite(weight_decay) or weight_decay < 0:
        raise GammaError(f"weight_decay must be finite and >= 0, got {weight_decay!r}")
