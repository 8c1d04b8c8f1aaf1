"""The rule: which category a gain falls into.

This is a reconstruction of the definitions of Kim et al. (arXiv:2205.07260), of which
only the abstract was available. It reads a residual graph (:mod:`gamma_nlp.graph.nodes`) and
nothing else. Follow the gain's output to the first residual addition
(:mod:`gamma_nlp.gains.additions`) on every path:

- it reaches a skip: ``shortcut``;
- else a branch, by some path without a weight: ``branch_last``;
- else a branch: ``branch_inner``;
- no addition: ``head``.

In a model without any residual addition, a gain followed by a weight and a later norm is
``branch_inner``. A gain that steers a branch only through indices and masks feeds that branch.

A gain is the affine weight of a norm, or a parameter that multiplies a whole branch (layer scale).
A parameter that multiplies the skip of the same addition too, as in ``(1 - a) * x + a * f``, mixes
the two and is no gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gamma_nlp.gains.additions import Addition, additions, enters_softmax
from gamma_nlp.gains.category import Category
from gamma_nlp.graph.nodes import Graph, Node, Op

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
class Use:
    """One place where a gain acts: its category, and the addition that settles it, if any."""

    parameter: str
    offset: float
    kind: str
    node: int
    category: Category
    addition: int | None


def uses(graph: Graph) -> list[Use]:
    """Return every place where a gain acts."""
    counted = {addition.node: addition for addition in additions(graph)}
    below = graph.children()
    scores = enters_softmax(graph)
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


def factors_before_norms(graph: Graph) -> set[str]:
    """Return the parameters whose every use multiplies a signal that a norm then normalises.

    The norm divides their size out again: they are no gains, only their ratios act.
    """
    below = _read(graph)
    found: dict[str, bool] = {}
    for index, node in enumerate(graph.nodes):
        if node.scale is not None:
            early = node.scale.kind is None and _only_feeds_norms(graph, index, below)
            name = node.scale.parameter
            found[name] = found.get(name, True) and early
    return {name for name, early in found.items() if early}


def _read(graph: Graph) -> list[list[int]]:
    """Return, for each node, the nodes that read it and from which a path leads to the output.

    Nothing does from the statistic of a norm that is written out: the norm stands for it.
    """
    below = graph.children()
    if graph.outputs:
        for index in range(len(graph.nodes) - 1, -1, -1):
            below[index] = [c for c in below[index] if below[c] or c in graph.outputs]
    return below


def _only_feeds_norms(graph: Graph, index: int, below: list[list[int]]) -> bool:
    """Return whether all that reads a node is norms with a statistic of it."""
    readers = [graph.nodes[child] for child in below[index]]
    return bool(readers) and all(
        (node.op is Op.NORM and node.name not in ("elementwise_norm", "batch_norm"))
        or (
            node.op is Op.LINEAR
            and len(node.parents) == 1
            and node.name in ("mul", "div", "neg")
            and _only_feeds_norms(graph, child, below)
        )
        for child, node in zip(below[index], readers, strict=True)
    )


def _layer_scales(graph: Graph, counted: Iterable[Addition]) -> set[int]:
    """Return the products with a parameter that scale the whole branch of an addition."""
    found = set()
    for addition in counted:
        mixes = _factors(graph, addition)
        for index in _whole(graph, addition.branch, addition.start):
            scale = graph.nodes[index].scale
            if scale is not None and scale.parameter not in mixes:
                found.add(index)
    return found


def _factors(graph: Graph, addition: Addition) -> set[str]:
    """Return the parameters that multiply the skip of an addition."""
    found: set[str] = set()
    for index in _whole(graph, addition.skip, addition.start):
        node = graph.nodes[index]
        found |= frozenset() if node.op is Op.WEIGHT else node.factors
    return found


def _whole(graph: Graph, operand: int, start: int) -> Iterator[int]:
    """Yield the nodes between start and operand that scale, mask or move the whole of it."""
    stack, seen = [operand], {operand}
    while stack:
        index = stack.pop()
        if index <= start:
            continue
        node = graph.nodes[index]
        yield index
        for parent in _scaled_by(node):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)


def _scaled_by(node: Node) -> tuple[int, ...]:
    """Return the parents whose factors are factors of a node."""
    if node.op is Op.LINEAR and (len(node.parents) == 1 or node.name == "choose"):
        return node.parents[:1]
    if node.op is Op.NONLINEAR and node.name in ("mul", "div"):
        return node.parents if node.name == "mul" else node.parents[:1]
    return ()


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
