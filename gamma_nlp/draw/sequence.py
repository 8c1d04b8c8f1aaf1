"""From the blocks of a graph to streams: what follows what, what splits and where it meets.

Between a place where a signal enters and one where it leaves, some nodes lie on every way: they
follow one another. What lies between two of them falls into paths that share nothing, and each path
is again such a sequence. Where a path cannot be taken apart like this, it is a tangle.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from gamma_nlp.draw.blocks import Blocks
from gamma_nlp.draw.cluster import clustered, without_short_cuts
from gamma_nlp.draw.stream import Block, Box, BoxKind, Element, Split, Stream, Tangle
from gamma_nlp.draw.ways import components, edges_among, on_every_way


class Sequences:
    """Takes the blocks of a graph apart.

    Args:
        blocks: The blocks.
        draw: Returns the element that nodes are drawn as: one gain, or operations without any.
        counts: Whether a node is a gain.
        weight: Whether a node holds a weight.
    """

    def __init__(
        self,
        blocks: Blocks,
        draw: Callable[[Sequence[int]], Element],
        counts: Callable[[int], bool],
        weight: Callable[[int], bool],
    ) -> None:
        self._blocks, self._draw = blocks, draw
        self._counts, self._weight = counts, weight
        self._levels = blocks.level()
        self._parents = dict(blocks.parents)
        self._members: dict[int, Sequence[int]] = {}  # of nodes that stand for several
        self._next = 1 + max(self._parents, default=0)

    def _seen(self, node: int) -> bool:
        element = self.elements(node)[0]
        return not isinstance(element, Box) or element.kind is not BoxKind.PLAIN

    def elements(self, node: int) -> Stream:
        """Return the elements that a node is drawn as: a block for the addition of one."""
        members = self._members.get(node, (node,))
        if members[0] in self._blocks.sums:
            return (self._block(members[0]),)
        return (self._draw(members),)

    def _block(self, node: int) -> Block:
        one = self._blocks.sums[node]
        inside = [n for n in self._levels.get(node, ()) if n != node]
        skips: list[Stream] = []
        branches: list[Stream] = []
        pieces = components(inside, edges_among(inside, self._parents))
        for piece in sorted(pieces, key=min):
            ends = [n for n in (one.skip, *one.branches) if n in set(piece)]
            # What cannot be told apart is on the skip: what scales it scales the skip too.
            found = skips if one.skip in ends else branches
            found.append(self.sequence(piece, one.start, ends))
        return Block(
            nodes=(*one.absorbed, node),
            skip=skips[0] if skips else (),
            branches=tuple(branches),
        )

    def sequence(
        self, nodes: Iterable[int], entry: int, ends: Sequence[int], cut: bool = False
    ) -> Stream:
        """Return the stream through some nodes of one level.

        Args:
            nodes: The nodes.
            entry: Where the signal enters; none of them.
            ends: Those of them from which it leaves.
            cut: Whether every way from there crosses a weight.
        """
        order, starts = self._ordered(sorted(nodes), entry)
        if not order:
            return ()
        place = {node: i for i, node in enumerate(order, 1)}
        place[entry] = 0
        last = len(order) + 1
        edges: list[tuple[int, int]] = []
        for node in order:
            before = [place[p] for p in self._parents[node] if p in place]
            edges += [(b, place[node]) for b in before or [place[starts[node]]]]
        going = {start for start, _ in edges}
        edges += [(place[end], last) for end in ends if end in place]
        edges += [(i, last) for i in range(1, last) if i not in going and order[i - 1] not in ends]
        shared = on_every_way(edges, last)
        found: list[Element] = []
        for here, there in itertools.pairwise(shared):
            between = order[here : there - 1]
            if between:
                inner = [(a, b) for a, b in edges if here < a and b < there]
                pieces = components(between, [(order[a - 1], order[b - 1]) for a, b in inner])
                direct = (here, there) in edges
                found += self._paths(
                    pieces,
                    order[here - 1] if here else entry,
                    [order[a - 1] for a, b in edges if b == there and a > here],
                    direct,
                    alone=here == 0 and there == last,
                    cut=self._crosses([order[i - 1] for i in shared if there <= i < last], cut),
                )
            if there < last:
                node = order[there - 1]
                if node in starts:
                    found.append(Box(nodes=(), kind=BoxKind.MEMORY, label="memory"))
                found += self.elements(node)
        return tuple(found)

    def _ordered(self, nodes: Sequence[int], entry: int) -> tuple[list[int], dict[int, int]]:
        """Return nodes in an order of running, and where those enter that read none of them.

        What comes from elsewhere, such as the keys of a memory, is put just before the node that
        reads it, and drawn from the last node that every way passes.
        """
        reached = {entry}
        for node in nodes:
            if any(p in reached for p in self._parents[node]):
                reached.add(node)
        own = [node for node in nodes if node in reached]
        others = [node for node in nodes if node not in reached]
        pieces = components(others, edges_among(others, self._parents))
        if not pieces:
            return own, {}
        place = {node: i for i, node in enumerate([entry, *own])}
        edges = [(place[p], place[n]) for n in own for p in self._parents[n] if p in place]
        shared = on_every_way(edges, len(own) + 1)
        before: dict[int, list[int]] = {}
        starts: dict[int, int] = {}
        for piece in pieces:
            if not any(self._seen(node) for node in piece):
                continue
            readers = [n for n in own if not set(piece).isdisjoint(self._parents[n])]
            reader = min(readers, default=own[-1] if own else entry)
            before.setdefault(reader, []).extend(piece)
            at = max(i for i in shared if i < max(place[reader], 1))
            known = set(piece)
            for node in piece:
                if known.isdisjoint(self._parents[node]):
                    starts[node] = own[at - 1] if at else entry
        order = [*before.get(entry, ())] if entry in before else []
        for node in own:
            order += [*before.get(node, ()), node]
        return order, starts

    def _paths(
        self,
        pieces: list[list[int]],
        entry: int,
        ends: Sequence[int],
        direct: bool,
        alone: bool,
        cut: bool,
    ) -> Stream:
        """Return what lies between two nodes that every way passes."""
        if len(pieces) == 1 and not direct and alone:
            return self._clustered(pieces[0], entry, ends, cut)
        paths = [
            self.sequence(piece, entry, [end for end in ends if end in set(piece)], cut)
            for piece in sorted(pieces, key=min)
        ]
        if direct:
            paths.append(())
        return (Split(paths=tuple(paths)),) if len(paths) > 1 else paths[0]

    def _crosses(self, after: Iterable[int], cut: bool) -> bool:
        """Return whether nodes that every way passes hold a weight before an addition."""
        for node in after:
            if self._is_sum(node):
                return False
            if self._holds_weight(node):
                return True
        return cut

    def _is_sum(self, node: int) -> bool:
        return self._members.get(node, (node,))[0] in self._blocks.sums

    def _holds_weight(self, node: int) -> bool:
        return any(map(self._weight, self._members.get(node, (node,))))

    def _clustered(
        self, nodes: Sequence[int], entry: int, ends: Sequence[int], cut: bool
    ) -> Stream:
        """Return a tangle, taken apart after all if few of its operations need to be seen."""

        def fixed(node: int) -> bool:
            return self._counts(self._members.get(node, (node,))[0]) or self._is_sum(node)

        def weight(node: int) -> bool:  # none where every way crosses one later in any case
            return not cut and self._holds_weight(node)

        groups = clustered(sorted(nodes), self._parents, ends, fixed, weight)
        if len(groups) == len(nodes):
            if cut and not any(map(self._is_sum, nodes)):
                fewer, leaving = without_short_cuts(sorted(nodes), self._parents, entry, ends)
                if fewer or len(leaving) < len(ends):
                    self._parents |= fewer
                    return self.sequence(nodes, entry, leaving, cut)
            return (self._tangle(nodes, entry, ends),)
        new: dict[int, int] = {entry: entry}
        for group in groups:
            new |= dict.fromkeys(group, self._next)
            members = [m for node in group for m in self._members.get(node, (node,))]
            self._members[self._next] = members
            self._next += 1
        for group in groups:
            read = [new[p] for node in group for p in self._parents[node] if p in new]
            one = new[group[0]]
            self._parents[one] = tuple(dict.fromkeys(p for p in read if p != one))
        leaving = list(dict.fromkeys(new[end] for end in ends))
        return self.sequence([new[group[0]] for group in groups], entry, leaving, cut)

    def _tangle(self, nodes: Sequence[int], entry: int, ends: Sequence[int]) -> Tangle:
        order = sorted(nodes)
        place = {node: i for i, node in enumerate(order)}
        place[entry] = -1
        edges = [(place[p], place[n]) for n in order for p in self._parents[n] if p in place]
        edges += [(place[end], len(order)) for end in ends]
        elements = tuple(self.elements(node)[0] for node in order)
        return Tangle(elements=elements, edges=tuple(edges))
