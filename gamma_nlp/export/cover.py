"""The fewest patterns that give every name what it wants: exact where that is quick, else greedy.

Sets of items are numbers whose bits are the items. Every pattern is given here with the items that
it matches; whether it matches them in all forms of their names was settled before.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gamma_nlp.export.pieces import Pattern

MOST_STEPS = 2_000
"""Steps of a search, after which what greed found is kept."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A pattern, the items that it matches, and those of which it matches some names."""

    pattern: Pattern
    items: int
    touches: int

    @property
    def cost(self) -> float:
        return self.pattern.cost


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A pattern with what it stands for."""

    pattern: Pattern
    wants: float


@dataclass(kw_only=True)
class _Search:
    steps: int = 0

    def spent(self) -> bool:
        self.steps += 1
        return self.steps > MOST_STEPS


def fewest(
    matches: Sequence[Match],
    wanted: Mapping[float, int],
    default: float,
    *,
    ordered: bool,
    disjoint: bool,
    settled: int = 0,
) -> list[Chosen] | None:
    """Return the fewest patterns; names that none matches get ``default``.

    Args:
        matches: What patterns there are; of several for the same items, the most readable.
        wanted: The items of each value.
        default: The value that needs no pattern.
        ordered: Whether the first pattern that matches decides; else all must agree.
        disjoint: Whether no two patterns may match one name, even if they agree.
        settled: Items that something else has decided. They may be matched, by their own value.

    Returns:
        The patterns in their order, or ``None`` where none can tell some items apart.
    """
    found: list[Chosen] | None = []
    for value, items in wanted.items():
        if value == default:
            continue
        pure = [match for match in matches if match.touches & ~items == 0]
        cover = _cover(pure, items & ~settled, disjoint)
        found = None if cover is None or found is None else found + _as(value, cover)
    if not ordered:
        return found
    greedy = _greedy_in_order(matches, wanted, default)
    ways = [way for way in (found, greedy) if way is not None]
    short = min(ways, key=len, default=None)
    most = len(short) if short is not None else len(matches)
    shorter = _in_order(matches, wanted, default, most)
    return shorter if shorter is not None else short


def _as(value: float, cover: Iterable[Match]) -> list[Chosen]:
    return [Chosen(pattern=match.pattern, wants=value) for match in cover]


def _cover(pure: Sequence[Match], items: int, disjoint: bool) -> list[Match] | None:
    """Return the fewest of ``pure`` whose union holds ``items``, the most readable of those."""
    useful = [match for match in pure if match.items & items]
    if not disjoint:
        useful = [
            m
            for m in useful
            if not any(
                m.items & items & ~o.items == 0
                and (o.items & items != m.items & items or o.cost < m.cost)
                for o in useful
            )
        ]
    greedy = _greedy(useful, items, disjoint)
    search = _Search()
    limit = len(greedy) if greedy is not None else len(useful)
    for size in range(limit + 1):
        best = min(
            _covers(search, useful, items, disjoint, size),
            key=lambda cover: sum(match.cost for match in cover),
            default=None,
        )
        if best is not None:
            return best
        if search.steps > MOST_STEPS:
            break
    return greedy


def _covers(
    search: _Search, useful: Sequence[Match], items: int, disjoint: bool, size: int
) -> Iterator[list[Match]]:
    """Yield every cover of ``items`` by ``size`` patterns, while the search has steps left."""
    if not items:
        yield []
        return
    if size == 0 or search.spent():
        return
    first = min(_bits(items), key=lambda bit: sum(bool(m.items & bit) for m in useful))
    for match in useful:
        if match.items & first:
            rest = useful
            if disjoint:
                rest = [other for other in useful if not other.touches & match.touches]
            for cover in _covers(search, rest, items & ~match.items, disjoint, size - 1):
                yield [match, *cover]


def _greedy(useful: Sequence[Match], items: int, disjoint: bool) -> list[Match] | None:
    taken: list[Match] = []
    left, used = items, 0
    while left:
        open_ = [m for m in useful if m.items & left and not (disjoint and m.touches & used)]
        if not open_:
            return None
        best = max(open_, key=lambda m: ((m.items & left).bit_count(), -m.cost))
        taken.append(best)
        left, used = left & ~best.items, used | best.touches
    return taken


def _greedy_in_order(
    matches: Sequence[Match], wanted: Mapping[float, int], default: float
) -> list[Chosen] | None:
    chosen = []
    left = _all(wanted)
    while open_ := {value: items & left for value, items in wanted.items() if items & left}:
        if set(open_) == {default}:
            break
        moves = _moves(matches, open_, left)
        if not moves:
            return None
        match, value = max(
            moves, key=lambda move: ((move[0].items & left).bit_count(), -move[0].cost)
        )
        chosen.append(Chosen(pattern=match.pattern, wants=value))
        left &= ~match.items
    return chosen


def _all(wanted: Mapping[float, int]) -> int:
    return functools.reduce(operator.or_, wanted.values(), 0)


def _in_order(
    matches: Sequence[Match], wanted: Mapping[float, int], default: float, most: int
) -> list[Chosen] | None:
    """Return fewer than ``most`` patterns of which the first that matches decides, or ``None``."""
    search = _Search()
    for size in range(most):
        chains = _chains(search, matches, wanted, default, _all(wanted), size)
        best = min(chains, key=lambda chain: sum(m.cost for m, _ in chain), default=None)
        if best is not None:
            return [Chosen(pattern=m.pattern, wants=value) for m, value in best]
        if search.steps > MOST_STEPS:
            return None
    return None


def _chains(
    search: _Search,
    matches: Sequence[Match],
    wanted: Mapping[float, int],
    default: float,
    left: int,
    size: int,
) -> Iterator[list[tuple[Match, float]]]:
    open_ = {value: items & left for value, items in wanted.items() if items & left}
    others = len(open_.keys() - {default})
    if not others:
        yield []
        return
    if others > size or search.spent():
        return
    for match, value in _moves(matches, open_, left):
        for chain in _chains(search, matches, wanted, default, left & ~match.items, size - 1):
            yield [(match, value), *chain]


def _moves(
    matches: Sequence[Match], open_: Mapping[float, int], left: int
) -> list[tuple[Match, float]]:
    """Return the patterns that now match items of one value alone, the largest of each."""
    best: dict[int, tuple[Match, float]] = {}
    for match in matches:
        now = match.items & left
        if not now:
            continue
        touched = match.touches & left
        value = next((v for v, items in open_.items() if touched & ~items == 0), None)
        if value is not None and (now not in best or match.cost < best[now][0].cost):
            best[now] = (match, value)
    largest: list[int] = []
    for now in sorted(best, key=int.bit_count, reverse=True):
        if not any(now & ~other == 0 for other in largest):
            largest.append(now)
    return [best[now] for now in largest]


def _bits(items: int) -> Iterator[int]:
    while items:
        bit = items & -items
        yield bit
        items ^= bit
