"""Which residual additions make a block, and which nodes lie inside it.

A block runs from the start of an addition to the addition. Its inside is every node on a way
between them. Insides are nested or apart. An addition whose inside would cut across another's, as
its branch starts on another stream, makes a block that starts where it adds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from gamma_nlp.draw.ways import between, readers_of
from gamma_nlp.graph.nodes import Graph


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A residual addition of any number of branches.

    Attributes:
        node: The node that adds.
        start: Where the branches leave.
        skip: The operand that is the skip.
        branches: The other operands.
        absorbed: The nodes of additions that are one with this.
    """

    node: int
    start: int
    skip: int
    branches: tuple[int, ...]
    absorbed: tuple[int, ...] = ()


@dataclass
class Nesting:
    """Blocks that have been accepted, from the innermost on."""

    sums: dict[int, Sum] = field(default_factory=dict)
    insides: dict[int, set[int]] = field(default_factory=dict)
    outermost: dict[int, int] = field(default_factory=dict)
    innermost: dict[int, int] = field(default_factory=dict)

    def accept(self, block: Sum, inside: set[int]) -> bool:
        touched = {self.outermost[node] for node in inside if node in self.outermost}
        for other in touched:
            if other not in inside or not self.insides[other] <= inside:
                return False
            if self.sums[other].start not in (block.start, *inside):
                return False
        if self.outermost.get(block.node) != self.outermost.get(block.start):
            return False  # its addition and its start are on different levels
        self.sums[block.node] = block
        self.insides[block.node] = inside
        for node in inside:
            self.innermost.setdefault(node, block.node)
            self.outermost[node] = block.node
        return True


def nested(sums: Collection[Sum], ordered: list[int], reads: dict[int, tuple[int, ...]]) -> Nesting:
    """Return the blocks of some additions.

    Args:
        sums: The additions.
        ordered: All nodes, in an order of running.
        reads: What each reads.
    """
    found = {one.node: (one, _inside(one, ordered, reads)) for one in sums}
    nesting = Nesting()
    refused = []
    for one, inside in sorted(found.values(), key=lambda pair: (len(pair[1]), pair[0].node)):
        around = {one.start, *inside}
        cut = any(node in found and found[node][0].start not in around for node in inside)
        if cut or not nesting.accept(one, inside):
            refused.append(one)
    _detach(sorted(refused, key=lambda one: one.node), nesting, found.keys(), ordered, reads)
    return nesting


def merged(graph: Graph, sums: list[Sum], live: set[int]) -> list[Sum]:
    """Make one of additions that follow one another with the same start: parallel branches."""
    readers = readers_of(live, {node: graph.nodes[node].parents for node in live})
    found: dict[int, Sum] = {}
    for one in sums:
        before = found.get(one.skip)
        alone = readers.get(one.skip) == {one.node} and one.skip not in graph.outputs
        if before is not None and before.start == one.start and alone:
            del found[one.skip]
            one = replace(
                one,
                skip=before.skip,
                branches=(*before.branches, *one.branches),
                absorbed=(*before.absorbed, before.node),
            )
        found[one.node] = one
    return list(found.values())


def _inside(one: Sum, ordered: list[int], reads: dict[int, tuple[int, ...]]) -> set[int]:
    """Return the nodes on a way from a block's start to its addition, both left out."""
    near = ordered[bisect_right(ordered, one.start) : bisect_right(ordered, one.node - 1)]
    return set(between(near, reads, one.start, (one.skip, *one.branches)))


def _detach(
    refused: list[Sum],
    nesting: Nesting,
    sums: Collection[int],
    ordered: list[int],
    reads: dict[int, tuple[int, ...]],
) -> None:
    """Make blocks of additions whose branch starts on another stream, or inside another block.

    Such a block starts where it adds. Its branch is what nothing else reads; that in turn reads
    from elsewhere.
    """
    readers = readers_of(ordered, reads)
    starts = {one.start for one in nesting.sums.values()}
    for one in refused:
        own: set[int] = set()
        stack = list(one.branches)
        while stack:
            node = stack.pop()
            ends = node in sums or node in nesting.outermost or node in starts or not reads[node]
            if not ends and readers[node] <= {one.node, *own}:
                own.add(node)
                stack.extend(reads[node])
        nesting.accept(replace(one, start=one.skip), own)
