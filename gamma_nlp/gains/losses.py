"""Which sums only make a loss, such as ``((y - x) ** 2).mean()`` or a penalty on activations.

A value is a *total* if a reduction has brought it down to one number, or to one for each item of a
batch. A sum of totals is a sum of
losses. Any other sum *ends in a loss* if every path from it comes to a total across neither weight,
norm nor contraction::

    x ──┬── network ── + ──▶ y ── - ──▶ square ──▶ mean ──▶ loss
        └──────────────┘          │
                               target       + is the network's own, - compares

Of such sums two kinds make the loss and are no residual additions: a difference that is the last
sum before a nonlinearity, which compares, and a sum whose skip comes through a nonlinearity or a
reduction of its own (a penalty, a divergence). Others, such as a last block or an outer skip,
belong to the network.
"""

from __future__ import annotations

from typing import Protocol

from gamma_nlp.gains.reach import Reach
from gamma_nlp.graph.nodes import Graph, Op

_LEADS_ON = frozenset({Op.WEIGHT, Op.NORM, Op.CONTRACT})


class _Sum(Protocol):
    @property
    def node(self) -> int: ...
    @property
    def skip(self) -> int: ...
    @property
    def start(self) -> int: ...


class Losses:
    """Tell which sums of a graph make a loss."""

    def __init__(self, graph: Graph, reach: Reach) -> None:
        self._graph, self._reach = graph, reach
        self._below = graph.children()
        size = len(graph.nodes)
        self._elsewhere = [False] * size  # some path leads on, or to an output
        self._to_total = [False] * size
        self._bent = [False] * size
        for index in reversed(range(size)):
            self._look_ahead(index)

    def settled(self, index: int) -> bool:
        """Return whether a sum makes a loss whatever its operands are."""
        if self._graph.nodes[index].total:
            return True
        ends = self._to_total[index] and self._bent[index] and not self._elsewhere[index]
        return ends and self._is_difference(index) and not self._is_compared(index)

    def made_by(self, addition: _Sum) -> bool:
        """Return whether a sum makes a loss from a skip that is no longer the signal."""
        bent = not self._reach.sets.has(self._reach.straight[addition.skip], addition.start)
        return bent and self._to_total[addition.node] and not self._elsewhere[addition.node]

    def _look_ahead(self, index: int) -> None:
        nodes, outputs = self._graph.nodes, self._graph.outputs
        below = self._below[index]
        if not nodes[index].total and (index in outputs or not (below or outputs)):
            self._elsewhere[index] = True
        for child in below:
            node = nodes[child]
            if node.op in _LEADS_ON:
                self._elsewhere[index] = True
            elif node.op is not Op.CHOICE:
                self._elsewhere[index] |= self._elsewhere[child] and not node.total
                self._to_total[index] |= node.total or self._to_total[child]
                bends = node.op in (Op.NONLINEAR, Op.SOFTMAX)
                self._bent[index] |= bends or (self._bent[child] and not node.total)

    def _is_difference(self, index: int) -> bool:
        node = self._graph.nodes[index]
        return node.name in ("sub", "rsub") or any(
            self._graph.nodes[parent].name == "neg" for parent in node.parents
        )

    def _is_compared(self, index: int) -> bool:
        """Return whether a further sum, or a loss of two signals, takes a sum before it bends."""
        stack, seen = [index], {index}
        while stack:
            for child in self._below[stack.pop()]:
                node = self._graph.nodes[child]
                several = len(set(node.parents)) > 1
                if node.op is Op.ADD and not node.total:
                    return True
                if node.op is Op.NONLINEAR and several and "loss" in node.name:
                    return True
                if node.op is Op.LINEAR and not node.total and child not in seen:
                    seen.add(child)
                    stack.append(child)
        return False
