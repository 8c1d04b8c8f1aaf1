"""Which nodes of a graph lie inside which residual block.

A block runs from the start of an addition to the addition. Its inside is every node on a way
between them. Insides are nested or apart; one that would cut across another is given up, and its
addition is then drawn as any other sum. What a block reads from elsewhere, such as an encoder's
memory, is no way in: it becomes a link.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from gamma_nlp.gains.additions import additions
from gamma_nlp.graph.nodes import Graph, Op


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


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The blocks of a graph.

    Attributes:
        sums: The addition of each block, by its node.
        inside: For each node, the innermost block that holds it, by the node of its addition.
        parents: For each node that is drawn, what it reads inside its block, or at top level. A
            block's addition reads its start alone.
        links: What is read from elsewhere, as pairs of nodes.
    """

    sums: dict[int, Sum]
    inside: dict[int, int | None]
    parents: dict[int, tuple[int, ...]]
    links: tuple[tuple[int, int], ...]

    def level(self) -> dict[int | None, list[int]]:
        """Return the nodes directly inside each block; those of ``None`` are in no block."""
        found: dict[int | None, list[int]] = {None: []}
        for node in sorted(self.parents):
            found.setdefault(self.inside[node], []).append(node)
        return found


@dataclass
class _Nesting:
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


def find_blocks(graph: Graph, wanted: Collection[int]) -> Blocks:
    """Return the blocks of a graph.

    Args:
        graph: The graph of one forward pass.
        wanted: The nodes that must be drawn, whether or not an output depends on them.
    """
    blocks = _all_blocks(graph, wanted)
    keep = {*wanted, *blocks.sums}
    hidden = {
        node
        for node, parents in blocks.parents.items()
        if node not in keep and len(parents) == 1 and graph.nodes[node].op not in _SEEN
    }
    return _without(blocks, hidden)


_SEEN = frozenset({Op.SOURCE, Op.WEIGHT, Op.CONTRACT, Op.SOFTMAX})


def _without(blocks: Blocks, hidden: set[int]) -> Blocks:
    """Leave out nodes that read one other: what reads them reads that one."""
    for_node: dict[int, int] = {}
    parents = {}
    for node in sorted(blocks.parents):
        read = tuple(dict.fromkeys(for_node.get(p, p) for p in blocks.parents[node]))
        if node in hidden:
            for_node[node] = read[0]
        else:
            parents[node] = read

    def seen(node: int) -> int:
        return for_node.get(node, node)

    sums = {
        one.node: replace(
            one,
            start=seen(one.start),
            skip=seen(one.skip),
            branches=tuple(map(seen, one.branches)),
        )
        for one in blocks.sums.values()
    }
    links = dict.fromkeys((seen(source), target) for source, target in blocks.links)
    return Blocks(sums=sums, inside=blocks.inside, parents=parents, links=tuple(links))


def _all_blocks(graph: Graph, wanted: Iterable[int]) -> Blocks:
    sums = [
        Sum(node=a.node, start=a.start, skip=a.skip, branches=(a.branch,)) for a in additions(graph)
    ]
    live = _live(graph, [*wanted, *(a.node for a in sums)])
    sums = _merged(graph, sums, live)
    absorbed = {node for one in sums for node in one.absorbed}
    live -= absorbed
    reads = {node: tuple(p for p in graph.nodes[node].parents if p in live) for node in live}
    for one in sums:
        reads[one.node] = (one.skip, *one.branches)
    ordered = sorted(live)
    found = {one.node: (one, _inside(one, ordered, reads)) for one in sums}
    nesting = _Nesting()
    refused = []
    for one, inside in sorted(found.values(), key=lambda pair: (len(pair[1]), pair[0].node)):
        around = {one.start, *inside}
        cut = any(node in found and found[node][0].start not in around for node in inside)
        if cut or not nesting.accept(one, inside):
            refused.append(one)
    _detach(sorted(refused, key=lambda one: one.node), nesting, found.keys(), ordered, reads)
    accepted = nesting.sums
    _adopt(graph, nesting, ordered, reads)
    inside_of = {node: nesting.innermost.get(node) for node in live}
    parents, links = _level_edges(accepted, inside_of, ordered, reads)
    return Blocks(sums=accepted, inside=inside_of, parents=parents, links=links)


def _live(graph: Graph, wanted: Iterable[int]) -> set[int]:
    """Return the nodes that an output, or a node that is wanted, depends on."""
    ends = set(graph.outputs) or {len(graph.nodes) - 1}
    found: set[int] = set()
    stack = [*ends, *wanted]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(graph.nodes[node].parents)
    return found


def _merged(graph: Graph, sums: list[Sum], live: set[int]) -> list[Sum]:
    """Make one of additions that follow one another with the same start: parallel branches."""
    readers: dict[int, set[int]] = {}
    for node in live:
        for parent in graph.nodes[node].parents:
            readers.setdefault(parent, set()).add(node)
    merged: dict[int, Sum] = {}
    for one in sums:
        before = merged.get(one.skip)
        alone = readers.get(one.skip) == {one.node} and one.skip not in graph.outputs
        if before is not None and before.start == one.start and alone:
            del merged[one.skip]
            one = replace(
                one,
                skip=before.skip,
                branches=(*before.branches, *one.branches),
                absorbed=(*before.absorbed, before.node),
            )
        merged[one.node] = one
    return list(merged.values())


def _inside(one: Sum, ordered: list[int], reads: dict[int, tuple[int, ...]]) -> set[int]:
    """Return the nodes on a way from a block's start to its addition, both left out."""
    between = ordered[bisect_right(ordered, one.start) : bisect_right(ordered, one.node - 1)]
    below = {one.start}
    for node in between:
        if not below.isdisjoint(reads[node]):
            below.add(node)
    above = {one.skip, *one.branches}
    for node in reversed(between):
        if node in above:
            above.update(reads[node])
    return (below & above) - {one.start}


def _detach(
    refused: list[Sum],
    nesting: _Nesting,
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


def readers_of(ordered: Iterable[int], reads: dict[int, tuple[int, ...]]) -> dict[int, set[int]]:
    """Return, for each node that is read, the nodes that read it."""
    readers: dict[int, set[int]] = {}
    for node in ordered:
        for parent in reads[node]:
            readers.setdefault(parent, set()).add(node)
    return readers


def _adopt(
    graph: Graph, nesting: _Nesting, ordered: list[int], reads: dict[int, tuple[int, ...]]
) -> None:
    """Take into a block what only it reads and what belongs to its modules: keys of a memory."""
    prefix = {
        node: common(graph.nodes[n].module for n in inside if graph.nodes[n].module)
        for node, inside in nesting.insides.items()
    }
    readers = readers_of(ordered, reads)
    starts = {one.start for one in nesting.sums.values()}
    for node in reversed(ordered):
        if (
            node in nesting.innermost
            or node in nesting.sums
            or node in starts
            or node not in readers
        ):
            continue
        blocks = {nesting.innermost.get(reader) for reader in readers[node]}
        block = blocks.pop()
        if blocks or block is None:
            continue
        module = graph.nodes[node].module
        own = prefix[block] and f"{module}.".startswith(f"{prefix[block]}.")
        if own and graph.nodes[node].op is not Op.SOURCE:
            nesting.innermost[node] = block


def common(modules: Iterable[str]) -> str:
    """Return the longest prefix that dotted names share."""
    shared: list[str] | None = None
    for module in modules:
        parts = module.split(".")
        if shared is None:
            shared = parts
        else:
            same = [a == b for a, b in zip(shared, parts, strict=False)]
            shared = shared[: same.index(False) if False in same else len(same)]
    return ".".join(shared or [])


def _level_edges(
    sums: dict[int, Sum],
    inside: dict[int, int | None],
    ordered: list[int],
    reads: dict[int, tuple[int, ...]],
) -> tuple[dict[int, tuple[int, ...]], tuple[tuple[int, int], ...]]:
    parents: dict[int, tuple[int, ...]] = {}
    links = []
    for node in ordered:
        if node in sums:
            one = sums[node]
            parents[node] = (one.start,)
            operands = (one.skip, *one.branches)
            links += [(p, node) for p in operands if p != one.start and inside[p] != node]
            continue
        block = inside[node]
        kept = []
        for parent in dict.fromkeys(reads[node]):
            if inside[parent] == block or (block is not None and parent == sums[block].start):
                kept.append(parent)
            else:
                links.append((parent, node))
        parents[node] = tuple(kept)
    return parents, tuple(links)
