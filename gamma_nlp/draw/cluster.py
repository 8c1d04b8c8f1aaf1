"""Operations without a gain, put together so that what is left is easier to take apart.

In a tangle, operations that come after the same gains and before the same gains belong together:
the scan of a state-space model, the core of gated attention. Putting them together makes no
cycle. Where a way around their weights leads through them they stay apart, as that way counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence


def clustered(
    nodes: Sequence[int],
    parents: Mapping[int, Sequence[int]],
    ends: Collection[int],
    fixed: Callable[[int], bool],
    weight: Callable[[int], bool],
) -> list[list[int]]:
    """Return groups of nodes that may be drawn as one, in an order of running.

    Args:
        nodes: The nodes, in an order of running.
        parents: What each reads.
        ends: Those from which the signal leaves.
        fixed: Whether a node must stay alone: a gain or a residual addition.
        weight: Whether a node holds a weight.
    """
    known = set(nodes)
    reads = {node: [p for p in parents[node] if p in known] for node in nodes}
    readers: dict[int, list[int]] = {node: [] for node in nodes}
    for node in nodes:
        for parent in reads[node]:
            readers[parent].append(node)
    above = _fixed_on(nodes, reads, fixed)
    below = _fixed_on(nodes[::-1], readers, fixed)
    alike: dict[object, list[int]] = {}
    for node in nodes:
        key: object = node if fixed(node) else (above[node], below[node])
        alike.setdefault(key, []).append(node)
    groups: list[list[int]] = []
    for group in alike.values():
        around = any(map(weight, group)) and _way_around(group, reads, readers, ends, weight)
        groups += [[node] for node in group] if around else [group]
    return _in_order(groups, reads)


def without_short_cuts(
    nodes: Sequence[int], parents: Mapping[int, Sequence[int]], entry: int, ends: Sequence[int]
) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Return nodes that read less, and fewer ends: a way is left out beside a longer one.

    That is right where nothing depends on which way a signal takes: where a weight follows.
    """
    known = {entry, *nodes}
    above: dict[int, set[int]] = {entry: set()}
    fewer = {}
    for node in nodes:
        read = [p for p in parents[node] if p in known]
        above[node] = {entry}.union(read, *(above[p] for p in read))
        kept = tuple(p for p in read if not any(p in above[other] for other in read))
        if len(kept) < len(read):
            fewer[node] = kept
    return fewer, [end for end in ends if not any(end in above[other] for other in ends)]


def _fixed_on(
    nodes: Sequence[int], before: Mapping[int, Sequence[int]], fixed: Callable[[int], bool]
) -> dict[int, frozenset[int]]:
    """Return, for each node, the fixed ones on the ways to it."""
    found: dict[int, frozenset[int]] = {}
    for node in nodes:
        sets = (found[b] | {b} if fixed(b) else found[b] for b in before[node])
        found[node] = frozenset().union(*sets)
    return found


def _way_around(
    group: Sequence[int],
    reads: Mapping[int, Sequence[int]],
    readers: Mapping[int, Sequence[int]],
    ends: Collection[int],
    weight: Callable[[int], bool],
) -> bool:
    """Return whether a way leads through a group past its weights."""
    inside = set(group)
    free: set[int] = set()
    for node in group:
        enters = not reads[node] or any(parent not in inside for parent in reads[node])
        if not weight(node) and (enters or any(parent in free for parent in reads[node])):
            free.add(node)
    return any(node in ends or not inside.issuperset(readers[node]) for node in free)


def _in_order(groups: list[list[int]], reads: Mapping[int, Sequence[int]]) -> list[list[int]]:
    owner = {node: i for i, group in enumerate(groups) for node in group}
    before = [
        {owner[p] for node in group for p in reads[node]} - {i} for i, group in enumerate(groups)
    ]
    done: set[int] = set()
    order: list[list[int]] = []
    while len(order) < len(groups):
        ready = [i for i in range(len(groups)) if i not in done and before[i] <= done]
        first = min(ready, key=lambda i: groups[i][0])
        done.add(first)
        order.append(groups[first])
    return order
