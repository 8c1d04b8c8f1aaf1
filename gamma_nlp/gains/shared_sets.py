"""Sets of numbers that share their parts, so that many sets of one deep graph take little memory.

A set is a tree. Its leaves are Python integers used as bit sets; a part without a member is 0. A
new set has new parts along the way to what is new, and all others in common with the old one::

    before   (A, B, C)                  A, B, C: bits of the numbers below 512, of the next 512, ...
    after    (A, B, C')                 one number more: two new objects, however large the set

Below 512 numbers a set is one integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LEAF = 9  # 512 numbers
_BRANCH = 3  # 8 parts
_MANY = 2**_BRANCH - 1

Set = Any
"""A part of a set: an integer, or a tuple of parts one level below."""

EMPTY: Set = 0


class SharedSets:
    """Work on sets of the numbers below ``size``; none is ever changed."""

    def __init__(self, size: int) -> None:
        top = _LEAF
        while 1 << top < size:
            top += _BRANCH
        self._top = top
        self._unions: dict[tuple[int, int], tuple[Set, Set, Set]] = {}

    def union(self, one: Set, other: Set) -> Set:
        """Return the numbers of two sets; one of them itself where it holds the other.

        What two parts make together is made once: layer after layer joins the same old parts.
        """
        if one is other or not other:
            return one
        if not one:
            return other
        key = id(one), id(other)
        if key in self._unions:
            return self._unions[key][2]
        if isinstance(one, int):
            both = one | other
            same, equal = both == one, both == other
        else:
            both = tuple([self.union(a, b) for a, b in zip(one, other, strict=True)])
            same = all([a is b for a, b in zip(one, both, strict=True)])
            equal = all([a is b for a, b in zip(other, both, strict=True)])
        if same or equal:
            return one if same else other
        self._unions[key] = one, other, both  # held, so that no other part takes their place
        return both

    def added(self, to: Set, number: int) -> Set:
        """Return a set with one number more."""
        return _added(to, number, self._top)

    def has(self, bits: Set, number: int) -> bool:
        """Return whether a set holds a number."""
        level = self._top
        while level > _LEAF and bits:
            level -= _BRANCH
            bits = bits[number >> level & _MANY]
        return bool(bits and bits >> (number & (1 << _LEAF) - 1) & 1)

    def latest(self, within: Sequence[Set], without: Sequence[Set] = ()) -> int | None:
        """Return the largest number that all sets of one kind hold and none of the other."""
        return _latest(tuple(within), tuple(without), self._top)


def _added(to: Set, number: int, level: int) -> Set:
    if level == _LEAF:
        return to | 1 << (number & (1 << _LEAF) - 1)
    level -= _BRANCH
    place = number >> level & _MANY
    parts = to or (EMPTY,) * (_MANY + 1)
    return (*parts[:place], _added(parts[place], number, level), *parts[place + 1 :])


def _latest(within: tuple[Set, ...], without: tuple[Set, ...], level: int) -> int | None:
    if not all(within) or any(a is b for a in within for b in without):
        return None
    if level == _LEAF:
        bits = within[0]
        for other in within[1:]:
            bits &= other
        for other in without:
            bits &= ~other
        return bits.bit_length() - 1 if bits else None
    left = tuple([one for one in without if one])
    level -= _BRANCH
    for place in range(_MANY, -1, -1):
        found = _latest(
            tuple([one[place] for one in within]), tuple([one[place] for one in left]), level
        )
        if found is not None:
            return (place << level) + found
    return None
