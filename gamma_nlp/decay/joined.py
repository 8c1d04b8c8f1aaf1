"""What saved groups have in common, where their parameters share one group now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from gamma_nlp.decay.group_keys import PROGRESS_KEYS
from gamma_nlp.errors import GammaError, listed


def agreed(values: Mapping[int, Any], key: str, names: Sequence[str]) -> Any:
    """Return the one value that saved groups have, by their numbers.

    Args:
        values: Of each group.
        key: What it is the value of.
        names: The parameters that share a group now.

    Raises:
        GammaError: They differ.
    """
    first, *others = values.values()
    if not all(same(first, other) for other in others):
        raise GammaError(
            f"the saved groups {sorted(values)} have different {key} ({list(values.values())}), "
            f"but their parameters {listed(names)} now share one group; make them differ now too, "
            "or start with a fresh optimizer"
        )
    return first


def progress(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the progress of joined groups: steps are common to all, what is due may not be.

    Decay that is due in some of them only is dropped; it is less than rounding takes in a step.
    """
    found = {}
    for key in PROGRESS_KEYS:
        values = [source.get(key, 0) for source in sources]
        if key in ("gamma_calls", "gamma_step"):
            found[key] = max(values)
        elif all(same(value, values[0]) for value in values):
            found[key] = deepcopy(values[0])
    return {key: value for key, value in found.items() if isinstance(value, torch.Tensor) or value}


def same(a: Any, b: Any) -> bool:
    """Compare numbers, lists and tensors, wherever they are."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return bool(torch.as_tensor(a).cpu().equal(torch.as_tensor(b).cpu()))
    return bool(a == b)
