"""Fit saved optimizer and scheduler states to other parameter groups, by parameter name.

Another policy makes other groups, and a stock Trainer checkpoint has two. What belongs to a
parameter (moments, step counts) follows the parameter; what belongs to a group (learning rate,
betas) comes from the saved group; the decay stays what it is now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError, listed

DECAY_KEYS = (
    "weight_decay",
    *("gamma_part", "gamma_mode", "gamma_center", "gamma_share", "gamma_last"),
    *("gamma_schedule", "gamma_base", "gamma_peak", "gamma_end", "gamma_steps"),
    *("gamma_decay", "gamma_offset"),  # of states saved before version 0.4
)
"""What the current optimizer decides; a saved state never changes it."""

PROGRESS_KEYS = ("gamma_due", "gamma_taken", "gamma_calls", "gamma_step")
"""How far deferred decay and schedules have come; a saved state brings it."""

_PER_GROUP = ("base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "max_lrs")


def regroup_state_dict(
    saved: Mapping[str, Any], saved_names: Sequence[Sequence[str]], optimizer: Optimizer
) -> dict[str, Any]:
    """Return a saved optimizer state rearranged for the groups of ``optimizer``.

    Nothing is changed in place: neither the optimizer nor ``saved``.

    Args:
        saved: What ``state_dict()`` of the earlier optimizer returned.
        saved_names: The parameter names of each saved group, in the saved order.
        optimizer: The current optimizer; its groups carry ``param_names``.

    Returns:
        A state dict for ``optimizer.load_state_dict``: state by parameter name, learning rates,
        betas and the like from the saved groups, decay from the current ones.

    Raises:
        GammaError: A parameter is missing on either side, or the parameters of a current group
            had different settings before, such as learning rates.
    """
    origin = _origins(saved, saved_names, optimizer)
    new_groups: list[dict[str, Any]] = []
    new_state: dict[Any, Any] = {}
    old_ids = {old_id for _, old_id in origin.values()}
    next_id = 0
    for group in optimizer.param_groups:
        names = group["param_names"]
        new = {key: deepcopy(value) for key, value in group.items() if key != "params"}
        own = {"params", "param_names", *DECAY_KEYS, *PROGRESS_KEYS}
        for key in {*group, "initial_lr"} - own:
            sources = {origin[name][0]: saved["param_groups"][origin[name][0]] for name in names}
            values = {index: old[key] for index, old in sources.items() if key in old}
            if values:
                new[key] = deepcopy(_agreed(values, key, names))
        new |= _progress([saved["param_groups"][origin[name][0]] for name in names])
        new["params"] = list(range(next_id, next_id + len(names)))
        next_id += len(names)
        for new_id, name in zip(new["params"], names, strict=True):
            old_id = origin[name][1]
            if old_id in saved["state"]:
                new_state[new_id] = saved["state"][old_id]
        new_groups.append(new)
    for key, value in saved["state"].items():
        if key not in old_ids:
            new_state[key] = value
    return {**saved, "state": new_state, "param_groups": new_groups}


OURS = "gamma_groups"
"""Key of a state in another layout, with the groups that the library made."""


def in_layout(
    saved: Mapping[str, Any], names: Sequence[Sequence[str]], decays: Sequence[float]
) -> dict[str, Any]:
    """Return a state with the groups of another optimizer, which can then load it.

    The groups as they are go along under a key that torch does not look at, so nothing is lost:
    the library loads such a state as if it had never been rearranged.

    Args:
        saved: The state of an optimizer of this library.
        names: The parameter names of each group of the other one, in its order.
        decays: Its weight decay for each of them.

    Raises:
        GammaError: Other parameters, or settings that differ inside one of its groups.
    """
    origin = {
        name: (group, old)
        for group in saved["param_groups"]
        for name, old in zip(group["param_names"], group["params"], strict=True)
    }
    order = [name for own in names for name in own]
    if sorted(order) != sorted(origin):
        raise GammaError(f"it trains other parameters: {listed({*order} ^ {*origin})}")
    number = {origin[name][1]: new for new, name in enumerate(order)}
    groups = []
    for own, decay in zip(names, decays, strict=True):
        # A group without parameters has the settings of the others.
        sources = {i: origin[name][0] for i, name in enumerate(own)} or {0: origin[order[0]][0]}
        keys = dict.fromkeys(key for source in sources.values() for key in source)
        apart = {"params", "param_names", *DECAY_KEYS, *PROGRESS_KEYS}
        group = {
            key: _agreed({i: one.get(key) for i, one in sources.items()}, key, own)
            for key in keys
            if key not in apart
        }
        group |= {"weight_decay": decay, "params": [number[origin[name][1]] for name in own]}
        groups.append(group)
    kept = [
        {**group, "params": [number[old] for old in group["params"]]}
        for group in saved["param_groups"]
    ]
    state = {number.get(key, key): value for key, value in saved["state"].items()}
    return {**saved, "state": state, "param_groups": groups, OURS: kept}


def in_own_layout(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`in_layout`; a state without its key is returned as it is."""
    result = dict(saved)
    if OURS in result:
        result["param_groups"] = result.pop(OURS)
    return result


def fit_state_dict(
    optimizer: Optimizer, state_dict: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the state to load, regrouped if need be, and each parameter's saved group.

    Raises:
        GammaError: The state carries no names; whatever :func:`regroup_state_dict` refuses.
    """
    state_dict = in_own_layout(state_dict)
    groups = state_dict["param_groups"]
    if not all("param_names" in group for group in groups):
        raise GammaError(
            "the saved optimizer state carries no parameter names, so nothing says which state "
            "belongs to which parameter; load it with "
            "gamma_nlp.hf.load_regrouped(optimizer, state_dict, names), where names are those of "
            "each saved group, in the order in which that optimizer got its parameters"
        )
    names = [group["param_names"] for group in groups]
    if names != [group["param_names"] for group in optimizer.param_groups]:
        state_dict = regroup_state_dict(state_dict, names, optimizer)
    return state_dict, {name: group for group in groups for name in group["param_names"]}


def still_deferred(
    group: Mapping[str, Any], saved: Sequence[Mapping[str, Any]], native: str
) -> dict[str, Any]:
    """Return the keys with which a group goes on deferring its decay, if it did so when saved.

    Whether rounding cancels decay depends on the values, which have moved since. A resumed run
    goes on as it was, where all else about the decay is the same.

    Args:
        group: A present group.
        saved: The saved group of each of its parameters.
        native: The optimizer's own kind of decay.
    """
    keys = ("gamma_part", "gamma_mode", "gamma_center", "gamma_share", "gamma_last")
    found = [{key: old.get(key) for key in keys} for old in saved]
    if not found or found[0]["gamma_part"] != "deferred" or any(one != found[0] for one in found):
        return {}
    if "gamma_share" in group or not all(
        as_told(old, native) == as_told(group, native) for old in saved
    ):
        return {}
    return found[0]


def as_told(group: Mapping[str, Any], native: str) -> tuple[Any, ...]:
    """Return what a policy says about the decay of a group."""
    schedule = ("gamma_schedule", "gamma_peak", "gamma_end", "gamma_steps")
    return (
        float(group.get("gamma_base", group.get("weight_decay", 0.0))),
        group.get("gamma_mode", native),
        group.get("gamma_center", 0.0),
        *(group.get(key) for key in schedule),
    )


def load_regrouped(
    optimizer: Optimizer, state_dict: Mapping[str, Any], names: Sequence[Sequence[str]]
) -> None:
    """Load a state that carries no parameter names, such as a stock Trainer checkpoint's.

    Args:
        optimizer: Made by :func:`gamma_nlp.make_optimizer`.
        state_dict: The saved state, with any number of groups.
        names: The parameter names of each saved group, in the saved order.

    Raises:
        GammaError: As :func:`regroup_state_dict`. Nothing has been loaded then.
    """
    _check_lengths(state_dict, names)
    named = [
        {**group, "param_names": list(own)}
        for group, own in zip(state_dict["param_groups"], names, strict=True)
    ]
    optimizer.load_state_dict({**state_dict, "param_groups": named})


def fit_scheduler_state(
    saved: Mapping[str, Any],
    optimizer: Optimizer,
    saved_names: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return a saved learning-rate scheduler state with one entry per group of ``optimizer``.

    Loaded as it is, the scheduler state of a run with two groups would never update the learning
    rate of a third.

    Args:
        saved: What ``scheduler.state_dict()`` returned.
        optimizer: The current optimizer.
        saved_names: Parameter names of each saved group, needed only if the saved groups had
            different learning rates.

    Raises:
        GammaError: The saved groups differ, and nothing says which applies where.
    """
    present = [group.get("param_names", []) for group in optimizer.param_groups]
    return spread_scheduler_state(saved, present, saved_names)


def spread_scheduler_state(
    saved: Mapping[str, Any],
    present: Sequence[Sequence[str]],
    saved_names: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Do as :func:`fit_scheduler_state` for groups of the names ``present``."""
    result = dict(saved)
    for key, values in saved.items():
        if key == "_schedulers":
            result[key] = [spread_scheduler_state(one, present, saved_names) for one in values]
        elif key in _PER_GROUP and isinstance(values, (list, tuple)):
            result[key] = deepcopy(_spread(key, list(values), present, saved_names))
    return result


def _spread(
    key: str,
    values: list[Any],
    present: Sequence[Sequence[str]],
    saved_names: Sequence[Sequence[str]] | None,
) -> list[Any]:
    if values and all(_same(value, values[0]) for value in values):
        return [values[0]] * len(present)
    if saved_names is None or len(saved_names) != len(values):
        if len(values) == len(present):
            return values
        raise GammaError(
            f"the saved scheduler has {len(values)} groups with different {key}, the optimizer "
            f"has {len(present)} groups; pass saved_names, the parameter names of each saved group"
        )
    index = {name: i for i, names in enumerate(saved_names) for name in names}
    spread = []
    for names in present:
        if not names:
            spread.append(values[0])
            continue
        if missing := [name for name in names if name not in index]:
            raise GammaError(f"the saved scheduler's groups do not hold {listed(missing)}")
        spread.append(_agreed({index[name]: values[index[name]] for name in names}, key, names))
    return spread


def _origins(
    saved: Mapping[str, Any], saved_names: Sequence[Sequence[str]], optimizer: Optimizer
) -> dict[str, tuple[int, Any]]:
    """Map each name to (index of its saved group, its id there), checked to be complete."""
    _check_lengths(saved, saved_names)
    origin: dict[str, tuple[int, Any]] = {}
    for index, (group, names) in enumerate(zip(saved["param_groups"], saved_names, strict=True)):
        for old_id, name in zip(group["params"], names, strict=True):
            if name in origin:
                raise GammaError(f"parameter {name!r} appears twice in the saved groups")
            origin[name] = (index, old_id)
    present = [name for group in optimizer.param_groups for name in group["param_names"]]
    problems = []
    if missing := [name for name in present if name not in origin]:
        problems.append(f"holds no {listed(missing)}, which the optimizer trains")
    if unknown := sorted(set(origin) - set(present)):
        problems.append(f"holds {listed(unknown)}, which the optimizer does not train")
    if problems:
        raise GammaError(
            f"the saved optimizer state {' and '.join(problems)}; freeze the same parameters as "
            "in the saved run, or start with a fresh optimizer"
        )
    return origin


def _progress(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the progress of joined groups: steps are common to all, what is due may not be.

    Decay that is due in some of them only is dropped; it is less than rounding takes in a step.
    """
    found = {}
    for key in PROGRESS_KEYS:
        values = [source.get(key, 0) for source in sources]
        if key in ("gamma_calls", "gamma_step"):
            found[key] = max(values)
        elif all(_same(value, values[0]) for value in values):
            found[key] = deepcopy(values[0])
    return {key: value for key, value in found.items() if isinstance(value, torch.Tensor) or value}


def _check_lengths(saved: Mapping[str, Any], saved_names: Sequence[Sequence[str]]) -> None:
    sizes = [len(group["params"]) for group in saved["param_groups"]]
    if [len(names) for names in saved_names] != sizes:
        raise GammaError(
            f"the saved optimizer state has groups of {sizes} parameters, but names were given "
            f"for groups of {[len(names) for names in saved_names]}"
        )


def _agreed(values: Mapping[int, Any], key: str, names: Sequence[str]) -> Any:
    first, *others = values.values()
    if not all(_same(first, other) for other in others):
        raise GammaError(
            f"the saved groups {sorted(values)} have different {key} ({list(values.values())}), "
            f"but their parameters {listed(names)} now share one group; make them differ now too, "
            "or start with a fresh optimizer"
        )
    return first


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return bool(torch.as_tensor(a).cpu().equal(torch.as_tensor(b).cpu()))
    return bool(a == b)
