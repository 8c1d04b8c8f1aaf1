"""Concatenations, whose slices are the parts again.

Reversible and chunked residuals keep several streams in one tensor::

    h = cat(x, y)  ──▶  x, y = chunk(h)        each slice stands for what it was before

Taken for one value, a norm of one stream would seem to scale the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

KEEPS = frozenset(["clone", "contiguous", "_to_copy", "detach", "alias", "lift_fresh", "to"])


@dataclass(frozen=True)
class Join:
    """What a tensor is made of along one dimension: each part's end, and its node."""

    dim: int
    ends: tuple[int, ...]
    nodes: tuple[int, ...]


def joined(
    name: str, args: Sequence[Any], tensors: Sequence[torch.Tensor], nodes: Sequence[int | None]
) -> Join | None:
    """Return the parts of what an operation gives, if it concatenates activations."""
    if name not in ("cat", "stack") or any(node is None for node in nodes) or len(nodes) < 2:
        return None
    dims = tensors[0].dim() + (name == "stack")
    dim = (args[1] if len(args) > 1 else 0) % max(dims, 1)
    ends, end = [], 0
    for tensor in tensors:
        end += 1 if name == "stack" else tensor.shape[dim]
        ends.append(end)
    return Join(dim, tuple(ends), tuple(node for node in nodes if node is not None))


def cut(
    name: str, args: Sequence[Any], join: Join, outputs: Sequence[torch.Tensor]
) -> list[Join | None]:
    """Return the parts of each output of an operation on a concatenation.

    ``None`` stands for what is no slice along the dimension of the concatenation.
    """
    if not isinstance(args[0], torch.Tensor):  # a list of tensors
        return [None] * len(outputs)
    if name in KEEPS:
        return [join] * len(outputs)
    return [_between(join, *span) for span in _spans(name, args, join.dim, outputs)] or [
        None
    ] * len(outputs)


def _between(join: Join, start: int, end: int) -> Join | None:
    """Return the parts between two positions."""
    starts = (0, *join.ends[:-1])
    inside = [i for i, e in enumerate(join.ends) if starts[i] < end and e > start]
    if not inside:
        return None
    ends = tuple(min(join.ends[i], end) - start for i in inside)
    return Join(join.dim, ends, tuple(join.nodes[i] for i in inside))


def _spans(
    name: str, args: Sequence[Any], dim: int, outputs: Sequence[torch.Tensor]
) -> list[tuple[int, int]]:
    """Return where each output begins and ends along ``dim``; nothing if it is cut elsewhere."""
    size, dims = args[0].shape[dim], args[0].dim()
    if name == "slice":
        _, along, start, end, step = (*args, *(None,) * 5)[:5]
        first, last, _ = slice(start, end).indices(size)
        return [(first, last)] if (along or 0) % dims == dim and step in (None, 1) else []
    if name == "select":
        return [(args[2] % size, args[2] % size + 1)] if args[1] % dims == dim else []
    if name == "unbind":
        whole = (args[1] if len(args) > 1 else 0) % dims == dim
        return [(i, i + 1) for i in range(len(outputs))] if whole else []
    if name in ("split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk"):
        if (args[2] if len(args) > 2 else 0) % dims != dim:
            return []
        spans, start = [], 0
        for output in outputs:
            spans.append((start, start + output.shape[dim]))
            start += output.shape[dim]
        return spans
    return []
