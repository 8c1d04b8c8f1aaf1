"""Which sums of a residual graph are residual additions.

This is a reconstruction of what Kim et al. (arXiv:2205.07260) build on; only their abstract was
available. A sum has a **skip** and a **branch**, which start at one node::

    start c ──┬─────────── skip, free of weights and norms ─────────── u ─┐
              └─────────── branch, with a weight or a norm ─────────── v ─+ ──▶

*Free* means crossing neither a weight nor a norm. A sum u + v is a residual addition if

- some node c reaches u freely, and reaches v but never freely (**identity**): u is the skip, v the
  branch, and the branch starts at the latest such c;
- or some node reaches u without a weight, through a norm, and v only through weights, and nothing
  later reaches both without one (**norm shortcut**, as RepVGG's identity branch);
- or the skip crosses exactly one weight, and every path of the branch at least two with a
  nonlinearity between them (**projection shortcut**). A norm is none: in eval mode a batch norm is
  linear, and W2 norm(W1 x) beside W x is a second weight rather than a branch.

A sum does not count

- if it enters a softmax before any weight (attention scores with a position bias);
- if it only makes a loss (:mod:`gamma_nlp.gains.losses`);
- if it is inside another addition's branch, unless its own skip runs from that branch's start to
  its end without a weight (a norm or a projection shortcut never does).

The last point has an exception. An addition whose branch holds a *trunk*, that is two additions one
after the other with no weight between them, is an **outer skip** around a network. It counts, and
what is inside it is counted as if it were not there::

    x ──┬──────────────────────────────────────────────┐        image restoration, box refinement,
        └─ weight ─ (+ f) ─ norm ─ (+ g) ─ norm ─ weight ─+ ──▶  forecasters that add the mean back
                     └────── a trunk ──────┘

Indices and masks made from activations (top-k, thresholds) are on no path here, nor are the
positions at which a sampler reads.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from gamma_nlp.gains.losses import Losses
from gamma_nlp.gains.reach import Reach
from gamma_nlp.gains.shared_sets import EMPTY
from gamma_nlp.graph.nodes import Graph, Op


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A residual addition: the node that adds, its two operands, and the start of its branch.

    ``identity`` says whether its skip is free of weights and norms.
    """

    node: int
    skip: int
    branch: int
    start: int
    identity: bool = True


def additions(graph: Graph) -> list[Addition]:
    """Return the residual additions of a graph, in the order in which they run."""
    reach = Reach(graph)
    alone = _alone(graph, reach)
    trunks = _Trunks(alone, reach)
    counted: list[Addition] = []
    within: list[Addition] = []  # those that swallow what is inside them
    # A sum can only be inside the branch of a later sum, so settle the last sum first.
    for addition in reversed(alone):
        around = [outer for outer in within if _inside(addition.node, outer, reach)]
        if around and not addition.identity:
            continue
        if all(_spans(addition, outer, reach) for outer in around):
            counted.append(addition)
            if not trunks.inside(addition):
                within.append(addition)
    return counted[::-1]


def _alone(graph: Graph, reach: Reach) -> list[Addition]:
    """Return the sums that are residual additions as far as nothing is around them."""
    scores = enters_softmax(graph)
    losses = Losses(graph, reach)
    found = []
    for index, node in enumerate(graph.nodes):
        if node.op is not Op.ADD or scores[index] or losses.settled(index):
            continue
        operands = node.parents[0], node.parents[1]
        addition = (
            _identity(index, operands, reach)
            or _norm_shortcut(index, operands, reach)
            or _projection(index, operands, reach)
        )
        if addition is not None and not losses.made_by(addition):
            found.append(addition)
    return found


def _inside(node: int, outer: Addition, reach: Reach) -> bool:
    return (
        outer.start < node
        and reach.sets.has(reach.all[node], outer.start)
        and reach.sets.has(reach.all[outer.branch], node)
    )


def _spans(inner: Addition, outer: Addition, reach: Reach) -> bool:
    return reach.sets.has(reach.weightless[inner.skip], outer.start) and reach.sets.has(
        reach.weightless[outer.branch], inner.node
    )


class _Trunks:
    """Tell which additions have a trunk in their branch.

    Neither the skips of a trunk nor what lies between its sums is gated: a recurrent cell, which
    gates its state, makes none.
    """

    def __init__(self, alone: list[Addition], reach: Reach) -> None:
        self.reach = reach
        self.plain = [a for a in alone if reach.sets.has(reach.straight[a.skip], a.start)]
        self.nodes = [a.node for a in self.plain]

    def inside(self, outer: Addition) -> bool:
        first = bisect_right(self.nodes, outer.start)
        last = bisect_right(self.nodes, outer.node - 1)
        inner = [a for a in self.plain[first:last] if _inside(a.node, outer, self.reach)]
        reach, sums = self.reach, EMPTY
        for addition in inner:
            before = (sums, reach.ungated[addition.start], reach.weightless[addition.start])
            if reach.sets.latest(before) is not None:
                return True
            sums = reach.sets.added(sums, addition.node)
        return False


def _identity(index: int, operands: tuple[int, int], reach: Reach) -> Addition | None:
    best: Addition | None = None
    for skip, branch in (operands, operands[::-1]):
        start = reach.sets.latest((reach.free[skip], reach.all[branch]), (reach.free[branch],))
        if start is not None and (best is None or start > best.start):
            best = Addition(node=index, skip=skip, branch=branch, start=start)
    return best


def _norm_shortcut(index: int, operands: tuple[int, int], reach: Reach) -> Addition | None:
    for skip, branch in (operands, operands[::-1]):
        start = reach.sets.latest((reach.weightless[skip], reach.all[branch]))
        carried = start is not None and reach.sets.has(reach.weightless[branch], start)
        if start is not None and not carried:  # behind all that both operands carry
            return Addition(node=index, skip=skip, branch=branch, start=start, identity=False)
    return None


def _projection(index: int, operands: tuple[int, int], reach: Reach) -> Addition | None:
    best: Addition | None = None
    for skip, branch in (operands, operands[::-1]):
        start = reach.sets.latest(
            (reach.one[skip], reach.bent[branch]),
            (reach.weightless[skip], reach.many[skip], reach.flat[branch]),
        )
        if start is not None and (best is None or start > best.start):
            best = Addition(node=index, skip=skip, branch=branch, start=start, identity=False)
    return best


def enters_softmax(graph: Graph) -> list[bool]:
    """Return, for each node, whether it enters a softmax before any weight or contraction."""
    enters = [False] * len(graph.nodes)
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op is Op.SOFTMAX or (
            enters[index] and node.op not in (Op.WEIGHT, Op.CONTRACT, Op.NORM, Op.CHOICE)
        ):
            for parent in node.parents:
                enters[parent] = True
    return enters
