"""The rule: which sums are residual additions, and which category a gain falls into.

This is a reconstruction of the definitions of Kim et al. (arXiv:2205.07260), of which
only the abstract was available. It reads a residual graph (:mod:`gamma_nlp.graph.nodes`) and
nothing else. Sets of nodes are Python integers used as bit sets, so that a hundred layers take
milliseconds.

A sum has a **skip** and a **branch**, which start at one node::

    start c ──┬─────────── skip, free of weights and norms ─────────── u ─┐
              └─────────── branch, with a weight or a norm ─────────── v ─+ ──▶

*Free* means crossing neither a weight nor a norm. A sum u + v is

- a **residual addition** if some node c reaches u freely, and reaches v but never freely: u is the
  skip, v the branch, and the branch starts at the latest such c;
- or a **projection shortcut**, if the skip crosses exactly one weight, every path of the branch at
  least two with a nonlinearity between them, and the sum is inside no other branch.

A sum does not count if it enters a softmax before any weight (attention scores with a position
bias), or if it is inside another addition's branch, unless its own skip runs from that branch's
start to its end without a weight.

Indices and masks made from activations (top-k, thresholds) are on no path here, but a gain that
steers a branch through them feeds that branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gamma_nlp.gains.category import Category
from gamma_nlp.graph.nodes import Graph, Op

# Which of its uses decides for a gain that is used in several places, such as a shared layer's.
#
#                  shortcut   head   branch_last   branch_inner
#     none            -        -          -             -
#     input_only      -        -          -           decay         every preset decays the end
#     guidelines      -        -        decay         decay         of this order
#     all           decay    decay      decay         decay
#
# So a shared gain decays only if each of its uses would, whatever the preset. That is why head
# comes before the branches: a block's norm that is also the final norm scales the logits, and
# nothing after that makes up for a smaller scale. branch_last comes before branch_inner because of
# input_only.
#
# Within one use head comes last of all (see _follow): it is what remains where no path meets an
# addition.
#
#     gain ──┬── linear ──▶ +       one use: branch_inner, although a path leads to the output
#            └──▶ output
#
#     gain ───── linear ──▶ +       two uses of one parameter, branch_inner and head: head
#     gain ──▶ output
PRECEDENCE = (Category.SHORTCUT, Category.HEAD, Category.BRANCH_LAST, Category.BRANCH_INNER)


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A residual addition: the node that adds, its two operands, and the start of its branch."""

    node: int
    skip: int
    branch: int
    start: int


@dataclass(frozen=True, kw_only=True)
class Use:
    """One place where a gain acts: its category, and the addition that settles it, if any."""

    parameter: str
    offset: float
    kind: str
    node: int
    category: Category
    addition: int | None


class Reach:
    """For every node, its ancestors as bit sets: all, those that reach it freely or weightless."""

    def __init__(self, graph: Graph) -> None:
        self.all: list[int] = []
        self.free: list[int] = []
        self.weightless: list[int] = []
        for index, node in enumerate(graph.nodes):
            everything = free = weightless = 0
            for parent in () if node.op is Op.CHOICE else node.parents:
                everything |= self.all[parent]
                free |= self.free[parent]
                weightless |= self.weightless[parent]
            here = 1 << index
            weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM
            self.all.append(everything | here)
            self.free.append(here if weight or norm else free | here)
            self.weightless.append(here if weight else weightless | here)


def _has(bits: int, index: int) -> bool:
    return bool(bits >> index & 1)


def additions(graph: Graph) -> list[Addition]:
    """Return the residual additions of a graph, in the order in which they run."""
    reach = Reach(graph)
    scores = _enters_softmax(graph)
    counted: list[Addition] = []
    # A sum can only be inside the branch of a later sum, so settle the last sum first.
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op is not Op.ADD or scores[index]:
            continue
        around = [outer for outer in counted if _inside(index, outer, reach)]
        found = _identity(index, node.parents, reach)
        if found is None and not around:
            found = _projection(graph, index, node.parents, reach)
        if found is not None and all(_spans(found, outer, reach) for outer in around):
            counted.append(found)
    return counted[::-1]


def _inside(node: int, outer: Addition, reach: Reach) -> bool:
    return (
        node != outer.start
        and _has(reach.all[node], outer.start)
        and _has(reach.all[outer.branch], node)
    )


def _spans(inner: Addition, outer: Addition, reach: Reach) -> bool:
    return _has(reach.weightless[inner.skip], outer.start) and _has(
        reach.weightless[outer.branch], inner.node
    )


def _identity(index: int, operands: tuple[int, ...], reach: Reach) -> Addition | None:
    best: Addition | None = None
    for skip, branch in (operands, operands[::-1]):
        starts = reach.free[skip] & reach.all[branch] & ~reach.free[branch]
        if starts and (best is None or starts.bit_length() - 1 > best.start):
            best = Addition(node=index, skip=skip, branch=branch, start=starts.bit_length() - 1)
    return best


def _projection(
    graph: Graph, index: int, operands: tuple[int, ...], reach: Reach
) -> Addition | None:
    if not reach.all[operands[0]] & reach.all[operands[1]]:
        return None
    best: Addition | None = None
    for skip, branch in (operands, operands[::-1]):
        through_skip, through_branch = _crossings(graph, skip), _crossings(graph, branch)
        for start in sorted(through_skip.keys() & through_branch.keys(), reverse=True):
            if best is not None and start <= best.start:
                break
            one = all(path.weights == 1 for path in through_skip[start])
            if one and all(path.bottleneck for path in through_branch[start]):
                best = Addition(node=index, skip=skip, branch=branch, start=start)
                break
    return best


class _Path(NamedTuple):
    """What lies on a path, collected from its end backwards."""

    weights: int = 0  # 2 stands for two or more
    bent: bool = False  # a nonlinearity, with a weight after it
    bottleneck: bool = False  # two weights with a nonlinearity between them

    def before(self, op: Op) -> _Path:
        if op is Op.WEIGHT:
            return _Path(min(self.weights + 1, 2), self.bent, self.bottleneck or self.bent)
        if op in (Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT):
            return self._replace(bent=self.bent or self.weights > 0)
        return self


def _crossings(graph: Graph, node: int) -> dict[int, set[_Path]]:
    """Return what lies between each ancestor and ``node``, for each path that differs in it."""
    paths: dict[int, set[_Path]] = {}
    stack = [(node, _Path())]
    while stack:
        current, path = stack.pop()
        known = paths.setdefault(current, set())
        if path in known:
            continue
        known.add(path)
        entry = graph.nodes[current]
        if entry.op is not Op.CHOICE:
            stack.extend((parent, path.before(entry.op)) for parent in entry.parents)
    return paths


def _enters_softmax(graph: Graph) -> list[bool]:
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


def uses(graph: Graph) -> list[Use]:
    """Return every place where a gain acts."""
    counted = {addition.node: addition for addition in additions(graph)}
    below = graph.children()
    scores = _enters_softmax(graph)
    ends_branch = _layer_scales(graph, counted.values())
    found = []
    for index, node in enumerate(graph.nodes):
        if node.scale is None or (node.scale.kind is None and index not in ends_branch):
            continue
        category, addition = _follow(graph, index, counted, below)
        kind = node.scale.kind or "layer_scale"
        if category is Category.BRANCH_INNER and _feeds_scores(graph, index, below, scores):
            kind = "qk_norm"
        found.append(
            Use(
                parameter=node.scale.parameter,
                offset=node.scale.offset,
                kind=kind,
                node=index,
                category=category,
                addition=addition,
            )
        )
    return found


def merge(places: list[Use]) -> Use:
    """Return the use that decides for a parameter with several."""
    return min(places, key=lambda use: PRECEDENCE.index(use.category))


def _follow(
    graph: Graph, gain: int, counted: dict[int, Addition], below: list[list[int]]
) -> tuple[Category, int | None]:
    """Follow a gain's output to the first counted addition on every path."""
    seen = {(gain, False)}
    stack = [(gain, False)]
    last = inner = None
    renormalised = False
    while stack:
        current, weighted = stack.pop()
        for child in below[current]:
            node = graph.nodes[child]
            addition = counted.get(child)
            if addition is not None:
                if current == addition.skip:
                    return Category.SHORTCUT, child
                if weighted:
                    inner = child if inner is None else min(inner, child)
                else:
                    last = child if last is None else min(last, child)
                continue
            renormalised = renormalised or (weighted and node.op is Op.NORM)
            step = (child, weighted or node.op in (Op.WEIGHT, Op.CHOICE))
            if step not in seen:
                seen.add(step)
                stack.append(step)
    if last is not None:
        return Category.BRANCH_LAST, last
    if inner is not None:
        return Category.BRANCH_INNER, inner
    if not counted and renormalised:
        # Without any residual addition in the model the effective-rate argument holds unchanged.
        return Category.BRANCH_INNER, None
    return Category.HEAD, None


def _layer_scales(graph: Graph, counted: Iterable[Addition]) -> set[int]:
    """Return the products with a parameter that scale the whole branch of an addition."""
    found = set()
    for addition in counted:
        current = addition.branch
        while True:
            node = graph.nodes[current]
            if node.scale is not None:
                found.add(current)
            if node.op is not Op.LINEAR or len(node.parents) != 1:
                break
            current = node.parents[0]
    return found


def _feeds_scores(graph: Graph, gain: int, below: list[list[int]], scores: list[bool]) -> bool:
    """Return whether a gain's output is a query or key: a softmax follows its next contraction."""
    seen, stack = {gain}, [gain]
    while stack:
        for child in below[stack.pop()]:
            op = graph.nodes[child].op
            if op is Op.CONTRACT:
                if scores[child]:
                    return True
            elif op not in (Op.WEIGHT, Op.NORM, Op.SOFTMAX, Op.CHOICE) and child not in seen:
                seen.add(child)
                stack.append(child)
    return False
