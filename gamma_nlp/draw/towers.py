"""The streams of a whole graph: from an input to an output, side by side, with links between.

A tower takes the way that passes most residual additions, and all that splits from it and joins it
again. What is left over is made into towers in turn, if it holds a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gamma_nlp.draw.blocks import Blocks
from gamma_nlp.draw.sequence import Sequences
from gamma_nlp.draw.stream import Link, Stream
from gamma_nlp.draw.ways import between, components, edges_among, heaviest

_GAIN = 100
"""How much a gain counts in the choice of a way, against a weight; an addition counts more."""


@dataclass(frozen=True, kw_only=True)
class Towers:
    """The streams of a graph, those that are read first, and what they read of one another.

    ``ends`` are the nodes at the ends of links from one tower to another, or from no block.
    """

    streams: tuple[Stream, ...]
    links: tuple[Link, ...]
    ends: frozenset[int]


def make_towers(
    blocks: Blocks,
    sequences: Sequences,
    counts: Callable[[int], bool],
    weight: Callable[[int], bool],
) -> Towers:
    """Return the streams of a graph.

    Args:
        blocks: Its blocks.
        sequences: What takes them apart.
        counts: Whether a node is a gain.
        weight: Whether a node holds a weight.
    """

    def value(node: int) -> int:
        if node in blocks.sums:
            return 100 * _GAIN
        return _GAIN if counts(node) else int(weight(node))

    parents = blocks.parents
    top = blocks.level()[None]
    streams: dict[int, Stream] = {}  # by the node that each starts at
    owner: dict[int, int] = {}
    pieces = components(top, edges_among(top, parents))
    if all(value(node) < _GAIN for node in top) and pieces:  # a model without gains has a stream
        pieces = [max(pieces, key=lambda piece: sum(map(value, piece)))]
    least = min(_GAIN, max(map(value, top), default=0))
    while pieces:
        piece = pieces.pop()
        if max(map(value, piece)) < least:
            continue
        way = heaviest(piece, parents, value)
        first, last = way[0], way[-1]
        region = between(piece, parents, first, [last])
        owner |= dict.fromkeys(region, first)
        inner = [node for node in region if node != first]
        rest = sequences.sequence(inner, first, [last] if inner else [])
        streams[first] = (*sequences.elements(first), *rest)
        left = [node for node in piece if node not in owner]
        pieces += components(left, edges_among(left, parents))
    links = _links(blocks, top, owner)

    def tower(node: int) -> int | None:
        while (block := blocks.inside[node]) is not None:
            node = block
        return owner.get(node)

    far = [link for link in links if tower(link.source) != tower(link.target)]
    far += [link for link in links if blocks.inside[link.source] is None]
    ends = frozenset(node for link in far for node in (link.source, link.target))
    return Towers(streams=_sorted(streams, links, tower), links=links, ends=ends)


def _links(blocks: Blocks, top: Iterable[int], owner: dict[int, int]) -> tuple[Link, ...]:
    """Return what is read across, past nodes that are not drawn."""
    inside, parents = blocks.inside, blocks.parents
    behind: dict[int, tuple[int, ...]] = {}

    def drawn(node: int) -> tuple[int, ...]:
        return (node,) if inside[node] is not None or node in owner else behind[node]

    for node in top:
        if node not in owner:
            behind[node] = tuple(dict.fromkeys(d for p in parents[node] for d in drawn(p)))
    pairs = list(blocks.links)
    for node in owner:
        pairs += [(p, node) for p in parents[node] if owner.get(p) != owner[node]]
    links = dict.fromkeys(
        Link(source=source, target=target)
        for start, target in sorted(pairs)
        for source in drawn(start)
    )
    return tuple(links)


def _sorted(
    streams: dict[int, Stream], links: Iterable[Link], tower: Callable[[int], int | None]
) -> tuple[Stream, ...]:
    """Return towers so that each stands behind those that it reads, as far as there is an order."""
    reads: dict[int, set[int]] = {start: set() for start in streams}
    for link in links:
        source, target = tower(link.source), tower(link.target)
        if source is not None and target is not None and source != target:
            reads[target].add(source)
    order: list[int] = []
    while len(order) < len(streams):
        waiting = [start for start in sorted(streams) if start not in order]
        ready = (start for start in waiting if reads[start] <= set(order))
        order.append(next(ready, waiting[0]))
    return tuple(streams[start] for start in order)
