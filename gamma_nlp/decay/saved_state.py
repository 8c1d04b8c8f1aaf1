"""Fit a saved optimizer state to other parameter groups, by parameter name.

Another policy makes other groups, and a stock Trainer checkpoint has two. What belongs to a
parameter (moments, step counts) follows the parameter; what belongs to a group (learning rate,
betas) comes from the saved group; the decay stays what it is now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch.optim import Optimizer

from gamma_nlp.decay.group_keys import OWN_KEYS
from gamma_nlp.decay.joined import agreed, progress
from gamma_nlp.decay.stock_layout import in_own_layout
from gamma_nlp.errors import GammaError, listed


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
    order = [name for group in optimizer.param_groups for name in group["param_names"]]
    number = {origin[name][1]: new for new, name in enumerate(order)}
    groups = []
    for group in optimizer.param_groups:
        own = [origin[name] for name in group["param_names"]]
        joined = _joined(group, {index: saved["param_groups"][index] for index, _ in own})
        groups.append({**joined, "params": [number[old] for _, old in own]})
    state = {number.get(key, key): value for key, value in saved["state"].items()}
    return {**saved, "state": state, "param_groups": groups}


def _joined(group: Mapping[str, Any], sources: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a present group with the settings and the progress of the saved ones it holds."""
    new = {key: deepcopy(value) for key, value in group.items() if key != "params"}
    for key in {*group, "initial_lr"} - OWN_KEYS:
        values = {index: old[key] for index, old in sources.items() if key in old}
        if values:
            new[key] = deepcopy(agreed(values, key, group["param_names"]))
    return new | progress(list(sources.values()))


def fit_state_dict(
    optimizer: Optimizer, state_dict: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the state to load, regrouped if need be, and each parameter's saved group.

    Raises:
        GammaError: The state carries no names; whatever :func:`regroup_state_dict` refuses.
    """
    state_dict = in_own_layout(state_dict)
    groups = [_by_full_name(group) for group in state_dict["param_groups"]]
    state_dict = {**state_dict, "param_groups": groups}
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


def _by_full_name(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group with the names that torch.distributed.checkpoint numbers parameters by.

    It puts parameters into the present groups, and whole saved groups beside them, whose own
    ``param_names`` may be those of others.
    """
    params = group["params"]
    named = params and all(isinstance(one, str) for one in params)
    return {**group, "param_names": list(params)} if named else {**group}


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


def _check_lengths(saved: Mapping[str, Any], saved_names: Sequence[Sequence[str]]) -> None:
    sizes = [len(group["params"]) for group in saved["param_groups"]]
    if [len(names) for names in saved_names] != sizes:
        raise GammaError(
            f"the saved optimizer state has groups of {sizes} parameters, but names were given "
            f"for groups of {[len(names) for names in saved_names]}"
        )
