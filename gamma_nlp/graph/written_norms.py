"""Norms that a model writes out in several operations, and the gains before and after them.

::

    x * rsqrt(mean(x ** 2) + eps)        is a norm of x
    w * x * rsqrt(mean(x ** 2) + eps)    has its gain before the division
    y + y * w, where y is the norm       is one product with the gain 1 + w
    tanh(a * x) * w                      stands for a norm (DyT): a is learned, w the gain
"""

from __future__ import annotations

from dataclasses import replace

from gamma_nlp.graph import operations
from gamma_nlp.graph.nodes import Graph, Op, Scale

_AFFINE = ("mul", "div", "add", "sub", "neg")


def is_norm(graph: Graph, signal: int, factor: int) -> bool:
    """Return whether ``factor`` is a root of a reduction of what ``signal`` is made of.

    Then their product is a norm, written out; see :mod:`gamma_nlp.graph.operations`.
    """
    origin = _pointwise_origin(graph, signal)
    reduced = rooted = False
    stack, seen = [factor], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        node = graph.nodes[current]
        rooted = rooted or node.name in operations.ROOTS
        if node.name in operations.TOTALS and any(
            origin & _pointwise_origin(graph, parent) for parent in node.parents
        ):
            reduced = True
        elif node.name in operations.STATISTIC | operations.TOTALS and current != signal:
            stack.extend(node.parents)
        else:
            return False
    return rooted and reduced


def take_early_gain(graph: Graph, signal: int, factor: int) -> Scale | None:
    """Take the gain of ``w * (x - mean) / std``, which multiplies before the division.

    A factor that the statistic contains too is not a gain: the division cancels it.
    """
    entry = graph.nodes[signal]
    if entry.scale is None or entry.scale.kind is not None:
        return None
    stack, seen = [factor], {factor}
    while stack:
        for parent in graph.nodes[stack.pop()].parents:
            if parent == signal:
                return None
            if parent > signal and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    graph.nodes[signal] = replace(entry, scale=None)
    return entry.scale


def is_centred(graph: Graph, signal: int) -> bool:
    """Return whether a mean was subtracted from a signal."""
    node = graph.nodes[signal]
    if node.name != "sub" or len(node.parents) != 2:
        return False
    return graph.nodes[node.parents[1]].name in ("mean", "sum", "div", "var_mean")


def norm_behind(graph: Graph, node: int, scalar: bool, place: str) -> str | None:
    """Return the kind of the norm whose output ``node`` is, up to constant factors and shifts.

    A single number is the gain of a norm only in that norm's own module: outside it is a
    learned weight of a skip or a branch, which mixes signals.
    """
    while True:
        entry = graph.nodes[node]
        if entry.scale is not None:
            return None  # the norm has its gain already
        if entry.op is Op.NORM:
            return entry.name if not scalar or entry.module == place else None
        if entry.op is not Op.LINEAR or entry.name not in _AFFINE:
            return None
        node = entry.parents[0]


def merge_unit_offset(graph: Graph, total: int) -> int:
    """Turn ``y + y * w`` into one product of y with ``1 + w``.

    ::

        y ──┬────────┐            y ── * (w + 1) ──▶
            └─ * w ──+ ──▶   =
    """
    first, second = graph.nodes[total].parents
    for plain, scaled in ((first, second), (second, first)):
        product = graph.nodes[scaled]
        # A fused norm has a scale too, but y + norm(y) is a sum of two signals.
        if product.op is not Op.LINEAR or product.parents != (plain,):
            continue
        if product.scale is not None:
            scale = replace(product.scale, offset=product.scale.offset + 1)
            graph.nodes[total] = replace(
                graph.nodes[total], op=Op.LINEAR, parents=(plain,), scale=scale
            )
            graph.nodes[scaled] = replace(product, scale=None)
    return total


def squash_behind(graph: Graph, node: int, scalar: bool) -> str | None:
    """Turn ``tanh(a * x)``, about to meet a gain, into the norm that it stands for."""
    entry = graph.nodes[node]
    if entry.name not in operations.SQUASHES or len(entry.parents) != 1 or scalar:
        return None
    before = graph.nodes[entry.parents[0]]
    while before.op is Op.LINEAR and before.name in _AFFINE:
        if before.scale is not None and before.scale.kind is not None:
            return None  # the gain of a norm, followed by an activation
        if before.factors:
            kind = "elementwise_norm"
            graph.nodes[node] = replace(entry, op=Op.NORM, name=kind)
            return kind
        before = graph.nodes[before.parents[0]]
    return None


def _pointwise_origin(graph: Graph, node: int) -> set[int]:
    """Return what a signal is made of by pointwise operations, itself included."""
    found: set[int] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if current in found:
            continue
        found.add(current)
        entry = graph.nodes[current]
        # A sum of two signals is where a new one begins; a centred signal is not.
        if entry.name in operations.POINTWISE and (entry.op is not Op.ADD or entry.name == "sub"):
            stack.extend(entry.parents)
    return found
