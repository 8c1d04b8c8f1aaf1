"""A state in the groups of a stock optimizer, which can load it; ours go along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.decay.group_keys import OWN_KEYS
from gamma_nlp.decay.joined import agreed
from gamma_nlp.errors import GammaError, listed

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
        group = {
            key: agreed({i: one.get(key) for i, one in sources.items()}, key, own)
            for key in keys
            if key not in OWN_KEYS
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
