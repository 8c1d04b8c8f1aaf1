"""Concatenations, whose slices are the parts again.

Reversible and chunked residuals keep several streams in one tensor, box refinement the centre and
the size of a box::

    h = cat(x, y)  ──▶  x, y = chunk(h)        each slice stands for what it was before

Taken for one value, a norm of one stream would seem to scale the other. What leaves the parts apart
keeps them known: views, permutations, pointwise operations, indices along other dimensions. A part
may itself be a concatenation, along the same dimension or another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Part:
    """A part of a tensor: its node, ``None`` for a constant, and what it is made of itself."""

    node: int | None
    join: Join | None = None


@dataclass(frozen=True)
class Join:
    """What a tensor is made of along one dimension: where each part ends, and the parts."""

    dim: int
    ends: tuple[int, ...]
    parts: tuple[Part, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether a tensor of this shape can be so made."""
        return self.dim < len(shape) and self.ends[-1] == shape[self.dim]


Shape = Sequence[int]
NewNode = Callable[[int], int]
Place = Callable[[int], int | None]


def concatenated(shapes: Sequence[Shape], parts: Sequence[Part], dim: int) -> Join | None:
    """Return what a concatenation along a dimension is made of, if two parts or more are."""
    kept = [(s, p) for s, p in zip(shapes, parts, strict=True) if math.prod(s) > 0]
    if len(kept) < 2 or all(part.node is None for _, part in kept):
        # What is joined to nothing stays itself.
        alone = kept[0][1].join if len(kept) == 1 else None
        return alone
    ends, end = [], 0
    for shape, _ in kept:
        end += shape[dim]
        ends.append(end)
    return Join(dim, tuple(ends), tuple(part for _, part in kept))


def between(
    part: Part, dim: int, start: int, end: int, together: Callable[[Sequence[int]], int]
) -> Part:
    """Return what lies between two positions along a dimension.

    Args:
        part: The tensor.
        dim: The dimension.
        start: The first position.
        end: The position behind the last one.
        together: Returns a node for several nodes that are still joined.
    """
    join = part.join
    if join is None:
        return part
    ends: tuple[int, ...]
    if join.dim == dim:
        inside = [
            (own, max(start, before) - before, min(end, after) - before)
            for own, before, after in zip(join.parts, (0, *join.ends[:-1]), join.ends, strict=True)
            if before < end and after > start
        ]
        chosen = tuple(between(own, dim, a, b, together) for own, a, b in inside)
        ends = tuple(min(after, end) - start for after in join.ends if after > start)[: len(inside)]
    else:
        chosen = tuple(between(own, dim, start, end, together) for own in join.parts)
        ends = join.ends
    if len(chosen) == 1:
        return chosen[0]
    nodes = list(dict.fromkeys(own.node for own in chosen if own.node is not None))
    if not nodes:
        return Part(None)
    same = [own.node for own in chosen] == [own.node for own in join.parts]
    return Part(part.node if same else together(nodes), Join(join.dim, ends, chosen))


def moved(join: Join, place: Place, new: NewNode | None = None) -> Join | None:
    """Return a concatenation whose dimensions have gone to other places.

    Args:
        join: The concatenation.
        place: Where each dimension has gone, ``None`` if it is no longer there.
        new: Returns the node that an operation makes of a part, by default the same.
    """
    dim = place(join.dim)
    if dim is None:
        return None
    parts = tuple(
        Part(
            node=new(own.node) if new is not None and own.node is not None else own.node,
            join=moved(own.join, place, new) if own.join is not None else None,
        )
        for own in join.parts
    )
    return Join(dim, join.ends, parts)


def reshaped(join: Join, before: Shape, after: Shape) -> Join | None:
    """Return a concatenation after its tensor got another shape with the same elements.

    A dimension may be split or merged with others as long as each part stays in one piece.
    """
    stride = math.prod(before[join.dim + 1 :])
    block = stride * before[join.dim]
    for dim in range(len(after)):
        step = math.prod(after[dim + 1 :])
        whole = step * after[dim] == block and step > 0
        if whole and all(end * stride % step == 0 for end in join.ends):
            ends = tuple(end * stride // step for end in join.ends)
            parts = []
            for own, size in zip(join.parts, _sizes(ends), strict=True):
                inner = own.join
                if inner is not None:
                    old = size * step // stride
                    inner = reshaped(inner, _with(before, join.dim, old), _with(after, dim, size))
                parts.append(replace(own, join=inner))
            return Join(dim, ends, tuple(parts))
    return None


def _sizes(ends: Sequence[int]) -> list[int]:
    return [end - start for start, end in zip((0, *ends[:-1]), ends, strict=True)]


def _with(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])
