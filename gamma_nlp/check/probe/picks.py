"""Steps that pick elements of a signal, by indices or by size.

The recorded pass picked some elements; another input would make it pick others of the same row::

    levels ── top-k ── tokens       the recorded pass may have picked none of one level

So each element of the result may move as soon as anything does that it might have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BY_INDEX = _names("index index_select gather take masked_select")
BY_SIZE = _names("topk sort kthvalue median max min amax amin cummax cummin")


def might_move(
    func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], recorded: Tensor
) -> Tensor:
    """Return which elements of a result might have moved, as a mask.

    Args:
        func: The operation.
        name: Its name.
        args: Its arguments, the first of them what it picks from.
        kwargs: Its other arguments.
        recorded: What it picked from in the recording.
    """
    changed = args[0] != recorded
    for dim in _picked(func, name, args, kwargs):
        changed = changed.any(dim, keepdim=True)
    # The same in all places that an element may come from: it comes out whichever is picked.
    result = func(changed.expand_as(recorded).to(recorded.dtype), *args[1:], **kwargs)
    values: Tensor = result if isinstance(result, Tensor) else result[0]
    return values != 0


def _picked(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[int]:
    """Return the dimensions along which an operation picks."""
    dims = args[0].dim()
    if name == "index":
        found: list[int] = []
        at = 0
        for index in args[1]:
            masks = index is not None and index.dtype in (torch.bool, torch.uint8)
            width = index.dim() if masks else 1
            found += [] if index is None else range(at, at + width)
            at += width
        return found
    dim = argument(func, args, kwargs, "dim")
    if isinstance(dim, (list, tuple)) and dim:
        return list(dim)
    return [dim] if isinstance(dim, int) else list(range(dims))


def argument(func: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    """Return an argument of an operation by its name, ``None`` if it has none of this name."""
    for i, own in enumerate(func._schema.arguments):
        if own.name == name:
            return args[i] if i < len(args) else kwargs.get(name, own.default_value)
    return None
