"""Ways through a graph: pieces of it, what every way passes, the heaviest way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

_NONE = -1


def edges_among(
    nodes: Iterable[int], parents: Mapping[int, Sequence[int]]
) -> list[tuple[int, int]]:
    """Return the edges between some nodes, as pairs of what is read and what reads it."""
    known = set(nodes)
    return [(p, n) for n in sorted(known) for p in parents[n] if p in known]


def readers_of(nodes: Iterable[int], parents: Mapping[int, Sequence[int]]) -> dict[int, set[int]]:
    """Return, for each node that is read, the nodes that read it."""
    readers: dict[int, set[int]] = {}
    for node in nodes:
        for parent in parents[node]:
            readers.setdefault(parent, set()).add(node)
    return readers


def heaviest(
    nodes: Iterable[int], parents: Mapping[int, Sequence[int]], weight: Callable[[int], int]
) -> list[int]:
    """Return the heaviest way through some nodes, in an order of running."""
    best: dict[int, tuple[int, int]] = {}
    for node in sorted(nodes):
        before = [(best[p][0], p) for p in parents[node] if p in best]
        value, parent = max(before, key=lambda pair: (pair[0], -pair[1]), default=(0, _NONE))
        best[node] = (value + weight(node), parent)
    node = max(best, key=lambda n: (best[n][0], n))
    way = [node]
    while (node := best[node][1]) != _NONE:
        way.append(node)
    return way[::-1]


def between(
    nodes: Iterable[int], parents: Mapping[int, Sequence[int]], first: int, last: Iterable[int]
) -> list[int]:
    """Return the nodes on a way from one node to others, all included."""
    ordered = sorted(nodes)
    below = {first}
    for node in ordered:
        if not below.isdisjoint(parents[node]):
            below.add(node)
    above = set(last)
    for node in reversed(ordered):
        if node in above:
            above.update(parents[node])
    return [node for node in ordered if node in below and node in above]


def on_every_way(edges: Sequence[tuple[int, int]], last: int) -> list[int]:
    """Return the places that no edge passes over, from the first to the last."""
    passing = [0] * (last + 2)
    for start, end in edges:
        if end > start + 1:
            passing[start + 1] += 1
            passing[end] -= 1
    found, over = [], 0
    for place in range(last + 1):
        over += passing[place]
        if not over:
            found.append(place)
    return found


def components(nodes: Iterable[int], edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the pieces of a graph that no edge joins."""
    root = {node: node for node in nodes}

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for one, two in edges:
        root[find(one)] = find(two)
    found: dict[int, list[int]] = {}
    for node in root:
        found.setdefault(find(node), []).append(node)
    return [sorted(piece) for piece in found.values()]
