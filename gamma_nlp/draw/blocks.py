"""The blocks of a graph, and what reads what inside each.

What a block reads from elsewhere, such as an encoder's memory, is no way in: it becomes a link.
Operations that need not be seen are left out here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from gamma_nlp.draw.nesting import Nesting, Sum, merged, nested
from gamma_nlp.draw.ways import readers_of
from gamma_nlp.gains.additions import additions
from gamma_nlp.graph.nodes import Graph, Op


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
    readers = readers_of(blocks.parents, blocks.parents)
    for one in blocks.sums.values():
        for operand in (one.skip, *one.branches):
            readers.setdefault(operand, set()).add(one.node)
    targets: dict[int, set[int]] = {}
    for node in sorted(hidden, reverse=True):
        read_by = readers.get(node, set())
        targets[node] = set().union(*(targets.get(reader, {reader}) for reader in read_by))
    links = dict.fromkeys(
        (seen(source), end)
        for source, target in blocks.links
        for end in sorted(targets.get(target, {target}))
    )
    return Blocks(sums=sums, inside=blocks.inside, parents=parents, links=tuple(links))


def _all_blocks(graph: Graph, wanted: Iterable[int]) -> Blocks:
    sums = [
        Sum(node=a.node, start=a.start, skip=a.skip, branches=(a.branch,)) for a in additions(graph)
    ]
    live = _live(graph, [*wanted, *(a.node for a in sums)])
    sums = merged(graph, sums, live)
    absorbed = {node for one in sums for node in one.absorbed}
    live -= absorbed
    reads = {node: tuple(p for p in graph.nodes[node].parents if p in live) for node in live}
    for one in sums:
        reads[one.node] = (one.skip, *one.branches)
    ordered = sorted(live)
    nesting = nested(sums, ordered, reads)
    _adopt(graph, nesting, ordered, reads)
    inside_of = {node: nesting.innermost.get(node) for node in live}
    parents, links = _level_edges(nesting.sums, inside_of, ordered, reads)
    return Blocks(sums=nesting.sums, inside=inside_of, parents=parents, links=links)


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


def _adopt(
    graph: Graph, nesting: Nesting, ordered: list[int], reads: dict[int, tuple[int, ...]]
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
