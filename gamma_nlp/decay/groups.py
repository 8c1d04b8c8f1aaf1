"""From a gain table and a policy to the fewest parameter groups that say it."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from gamma_nlp.decay.policy import DecayPolicy, Mode
from gamma_nlp.deprecated import renamed_arguments
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.wrappers import plain_names

PolicyLike = str | os.PathLike[str] | DecayPolicy


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The decay of one parameter: ``coefficient`` times ``(offset + w)``, applied as ``mode``."""

    coefficient: float
    offset: float
    mode: Mode


def assign(table: GainTable, policy: DecayPolicy, weight_decay: float) -> dict[str, Setting]:
    """Return the decay setting of every parameter in ``table``.

    Args:
        table: Category of every gain, role of every other parameter.
        policy: Multipliers and mode.
        weight_decay: The coefficient that a multiplier of 1 stands for.

    Raises:
        GammaError: ``weight_decay`` negative or not finite, or 0 under a policy that decays
            gains; a pattern of the policy that matches no parameter.
    """
    _check_weight_decay(weight_decay, policy)
    parameters: dict[str, Any] = {gain.name: gain for gain in table} | dict(table.roles)
    for pattern in policy.patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise GammaError(
                f"policy {policy.name!r}: pattern {pattern!r} matches no parameter"
                + _close(pattern, parameters)
            )
    return {
        name: Setting(
            coefficient=weight_decay * policy.multiplier(name, what),
            offset=what.offset if isinstance(what, Gain) else 0.0,
            mode=policy.mode,
        )
        for name, what in parameters.items()
    }


@renamed_arguments(example_inputs="inputs")
def param_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    policy: PolicyLike = "guidelines",
    inputs: Any = None,
    table: GainTable | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups for any optimizer with decoupled weight decay.

    Every trainable parameter is in exactly one group, tied ones once; frozen ones are in none.
    Parameters with equal decay share a group, so there are as few groups as possible.

    Args:
        model: The model to train.
        weight_decay: The coefficient that the policy multiplies.
        policy: A preset's name, a file, or a :class:`DecayPolicy`.
        inputs: For :func:`categorize`, where it cannot make inputs itself.
        table: The model's gain table, if it is at hand already.

    Returns:
        Dicts with ``params``, ``param_names`` (same order) and ``weight_decay``.

    Raises:
        GammaError: The policy asks for what plain groups cannot say (coupled decay, or decay of
            a gain stored as 1 + weight): use :func:`make_optimizer`.

    Example:
        >>> from torch import nn
        >>> from gamma_nlp.gains.category import Category, Role
        >>> from gamma_nlp.gains.table import Gain, GainTable
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        >>> gain = Gain(name="1.weight", category=Category.HEAD, kind="layer_norm", offset=0.0,
        ...             source="table", reason="last", dtype="float32", numel=2)
        >>> roles = {"0.weight": Role.WEIGHT, "0.bias": Role.BIAS, "1.bias": Role.SHIFT}
        >>> groups = param_groups(model, weight_decay=0.1, table=GainTable(gains=(gain,),
        ...                       roles=roles))
        >>> [(group["param_names"], group["weight_decay"]) for group in groups]
        [(['0.weight'], 0.1), (['0.bias', '1.weight', '1.bias'], 0.0)]
    """
    settings = settings_for(
        model,
        weight_decay=weight_decay,
        policy=policy,
        table=table_for(model, inputs, table),
    )
    named = trainable(model, settings)
    decayed = {name for name in named if settings[name].coefficient > 0}
    if coupled := [name for name in decayed if settings[name].mode == "coupled"]:
        raise GammaError(
            f"mode 'coupled' cannot be said with plain parameter groups ({len(coupled)} parameters "
            "decay); use gamma_nlp.make_optimizer(optimizer_class, model, ...)"
        )
    if offset := [name for name in named if name in decayed and settings[name].offset]:
        raise GammaError(
            f"{listed(offset)}: the gain is 1 + weight, and plain parameter groups would decay it "
            "to 1 instead of 0; use gamma_nlp.make_optimizer(optimizer_class, model, ...)"
        )
    return merged_groups(named, settings, native="decoupled")


def table_for(model: nn.Module, inputs: Any, table: GainTable | None) -> GainTable:
    """Return ``table``, or categorize ``model`` where there is none."""
    if table is not None:
        return table
    from gamma_nlp.gains.placement import categorize

    return categorize(model, inputs)


def settings_for(
    model: nn.Module, *, weight_decay: float, policy: PolicyLike, table: GainTable
) -> dict[str, Setting]:
    """Like :func:`assign`, but for the trainable parameters, keyed by the model's own names.

    A table made before a model was wrapped (data parallel, compile) still fits it.
    """
    assigned = assign(table, DecayPolicy.load(policy), weight_decay)
    by_plain_name = {plain: assigned[name] for name, plain in plain_names(assigned).items()}
    own = plain_names(name for name, _ in model.named_parameters())
    settings = {}
    for name, parameter in model.named_parameters():
        setting = assigned.get(name) or by_plain_name.get(own[name])
        if setting is not None:
            settings[name] = setting
        elif parameter.requires_grad:
            raise GammaError(
                f"parameter {name!r} is not in the gain table"
                + _close(name, assigned)
                + "; make the table from this very model: categorize(model)"
            )
    return settings


def trainable(model: nn.Module, settings: Mapping[str, Setting]) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name, each once, in the model's order."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise GammaError("the model has no trainable parameter; set requires_grad on some")
    return named


def merged_groups(
    named: Mapping[str, nn.Parameter], settings: Mapping[str, Setting], *, native: Mode
) -> list[dict[str, Any]]:
    """Return the fewest groups for an optimizer whose own decay is ``native``.

    What the optimizer can do itself goes into ``weight_decay``. The rest gets ``weight_decay`` 0
    and the keys that the step hook reads: ``gamma_decay``, ``gamma_offset``, ``gamma_mode``.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    plain = plain_names(settings)
    for name, parameter in named.items():
        keys = group_keys(settings[name], native)
        group = groups.setdefault(tuple(keys.items()), {"params": [], "param_names": [], **keys})
        group["params"].append(parameter)
        group["param_names"].append(plain[name])
    result = list(groups.values())
    ids = [id(parameter) for group in result for parameter in group["params"]]
    assert len(ids) == len(set(ids)) == len(named), "a parameter must be in exactly one group"
    return result


def group_keys(setting: Setting, native: Mode) -> dict[str, Any]:
    """Return the decay keys of a group: what the optimizer does, and what the step hook does."""
    if setting.coefficient == 0:
        return {"weight_decay": 0.0}
    if setting.mode == native and setting.offset == 0:
        return {"weight_decay": setting.coefficient}
    return {
        "weight_decay": 0.0,
        "gamma_decay": setting.coefficient,
        "gamma_offset": setting.offset,
        "gamma_mode": setting.mode,
    }


def _close(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.replace("*", ""), list(names), n=3, cutoff=0.4)
    return f"; close names: {listed(close)}" if close else ""


def _check_weight_decay(weight_decay: float, policy: DecayPolicy) -> None:
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, (int, float)):
        raise GammaError(f"weight_decay must be a number >= 0, got {weight_decay!r}")
    if not math.isfinite(weight_decay) or weight_decay < 0:
        raise GammaError(f"weight_decay must be finite and >= 0, got {weight_decay!r}")
    if weight_decay == 0 and policy.decays_gains:
        raise GammaError(
            f"policy {policy.name!r} decays gains, but weight_decay is 0 (the default of "
            "TrainingArguments), so nothing would decay; set weight_decay, for example to 0.01, "
            "or take the policy 'none'"
        )
