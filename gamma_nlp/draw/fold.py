"""Patterns that repeat, as one with its count.

Two elements are the same where their structure, their gains' categories, kinds and offsets and all
names but for numbers are. The shortest pattern comes first, and what it became may repeat again:
five layers of one kind and one of another, six times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gamma_nlp.draw.stream import Block, Box, Dot, Element, Fold, Split, Stream, Tangle
from gamma_nlp.rows import without_numbers

_LONGEST = 40
"""Longest pattern that is looked for, in elements."""


def folded(stream: Stream) -> Stream:
    """Return a stream in which each pattern that repeats is there once, with its count."""
    return _runs(tuple(_inner(element) for element in stream))


def _inner(element: Element) -> Element:
    match element:
        case Block():
            branches = tuple(folded(branch) for branch in element.branches)
            return replace(element, skip=folded(element.skip), branches=branches)
        case Split():
            return Split(paths=tuple(folded(path) for path in element.paths))
        case _:
            return element


def _runs(stream: Stream) -> Stream:
    """Fold neighbours, short patterns first, until nothing repeats."""
    found = stream
    while True:
        keys = [key(element) for element in found]
        best = _shortest(found, keys)
        if best is None:
            return found
        start, period = best
        found = _each(found, keys, keys[start : start + period])


def _each(stream: Stream, keys: Sequence[object], pattern: Sequence[object]) -> Stream:
    """Fold a pattern wherever it repeats, so that layers are cut alike along the stream."""
    found: list[Element] = []
    place, period = 0, len(pattern)
    while place < len(stream):
        count = _turns(keys, place, pattern)
        if count > 1:
            turns = [stream[place + i * period : place + (i + 1) * period] for i in range(count)]
            found.append(Fold(count=count, pattern=_merged(turns)))
            place += count * period
        else:
            found.append(stream[place])
            place += 1
    return tuple(found)


def _turns(keys: Sequence[object], start: int, pattern: Sequence[object]) -> int:
    """Return how often a pattern follows itself from a place on."""
    count, period = 0, len(pattern)
    while keys[start + count * period : start + (count + 1) * period] == pattern:
        count += 1
    return count


def _shortest(stream: Stream, keys: Sequence[object]) -> tuple[int, int] | None:
    """Return start and period of the first run of the shortest pattern that repeats."""
    for period in range(1, min(len(keys) // 2, _LONGEST) + 1):
        for start in range(len(keys) - 2 * period + 1):
            again = _turns(keys, start, keys[start : start + period]) > 1
            if again and _worth(stream[start : start + period]):
                return start, period
    return None


def _worth(pattern: Stream) -> bool:
    return any(isinstance(element, (Block, Fold, Split, Tangle)) for element in pattern)


def key(element: Element) -> object:
    """Return what two elements share that are the same but for numbers."""
    match element:
        case Dot():
            names = tuple(without_numbers(name) for name in element.gains)
            place = (element.category, element.placed, element.kind, element.offset)
            return ("dot", names, *place)
        case Box():
            return (
                "box",
                element.kind,
                without_numbers(element.label),
                tuple(map(without_numbers, element.modules)),
            )
        case Block():
            return ("block", keys_of(element.skip), tuple(map(keys_of, element.branches)))
        case Split():
            return ("split", tuple(map(keys_of, element.paths)))
        case Tangle():
            return ("tangle", keys_of(element.elements), element.edges)
        case Fold():
            return ("fold", element.count, keys_of(element.pattern))


def keys_of(stream: Stream) -> tuple[object, ...]:
    """Return the key of each element of a stream."""
    return tuple(key(element) for element in stream)


def _merged(turns: Sequence[Stream]) -> Stream:
    """Return one turn of a pattern that stands for all."""
    return tuple(_joined(elements) for elements in zip(*turns, strict=True))


def _joined(elements: Sequence[Element]) -> Element:
    first = elements[0]
    nodes = tuple(n for e in elements for n in getattr(e, "nodes", ()))
    match first:
        case Dot():
            gains = dict.fromkeys(g for e in elements if isinstance(e, Dot) for g in e.gains)
            return replace(first, nodes=nodes, gains=tuple(gains))
        case Box():
            modules = dict.fromkeys(m for e in elements if isinstance(e, Box) for m in e.modules)
            return replace(first, nodes=nodes, modules=tuple(modules))
        case Block():
            blocks = [e for e in elements if isinstance(e, Block)]
            branches = zip(*(block.branches for block in blocks), strict=True)
            return Block(
                nodes=nodes,
                skip=_merged([block.skip for block in blocks]),
                branches=tuple(_merged(turns) for turns in branches),
            )
        case Split():
            paths = zip(*(e.paths for e in elements if isinstance(e, Split)), strict=True)
            return Split(paths=tuple(_merged(turns) for turns in paths))
        case Tangle():
            inner = _merged([e.elements for e in elements if isinstance(e, Tangle)])
            return replace(first, elements=inner)
        case Fold():
            return replace(
                first, pattern=_merged([e.pattern for e in elements if isinstance(e, Fold)])
            )
