"""Which nodes of a graph reach which, and past what, as bit sets.

Sets of nodes are Python integers used as bit sets, so that a hundred layers take milliseconds.
"""

from __future__ import annotations

from gamma_nlp.graph.nodes import Graph, Node, Op
from gamma_nlp.graph.operations import REDUCTIONS

_BENDS = frozenset({Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT})


def has(bits: int, index: int) -> bool:
    """Return whether a bit set holds a node."""
    return bool(bits >> index & 1)


def latest(bits: int) -> int:
    """Return the last node of a bit set that is not empty."""
    return bits.bit_length() - 1


class Reach:
    """For every node, its ancestors, itself included, by what the paths from them cross.

    Attributes:
        all: Those with any path.
        free: Those with a path that crosses neither weight nor norm.
        weightless: Those with a path that crosses no weight.
        straight: Those with a path that crosses no nonlinearity and no reduction.
        ungated: Those with a path that crosses no product of two signals.
        one: Those with a path that crosses exactly one weight.
        many: Those with a path that crosses several.
        flat: Those with a path without two weights and a nonlinearity between them.
        bent: Those with a path that has them.
    """

    def __init__(self, graph: Graph) -> None:
        self.all: list[int] = []
        self.free: list[int] = []
        self.weightless: list[int] = []
        self.straight: list[int] = []
        self.ungated: list[int] = []
        self.one: list[int] = []
        self.many: list[int] = []
        self.flat: list[int] = []
        self.bent: list[int] = []
        # Of the paths in `flat`: with a weight and nothing after it, and with a nonlinearity.
        self._weighted: list[int] = []
        self._open: list[int] = []
        for index, node in enumerate(graph.nodes):
            self._add(1 << index, node, () if node.op is Op.CHOICE else node.parents)

    def _add(self, here: int, node: Node, parents: tuple[int, ...]) -> None:
        def above(sets: list[int]) -> int:
            found = 0
            for parent in parents:
                found |= sets[parent]
            return found

        weightless, weighted = above(self.weightless), above(self._weighted)
        opened, bent = above(self._open), above(self.bent)
        one, many = above(self.one), above(self.many)
        free = above(self.free)
        if node.op is Op.WEIGHT:
            one, many = weightless, one | many
            weighted, opened, bent = weightless | weighted, 0, bent | opened
            weightless = free = 0
        elif node.op in _BENDS:
            weighted, opened = 0, opened | weighted
        elif node.op is Op.NORM:
            free = 0
        self.all.append(above(self.all) | here)
        self.free.append(free | here)
        self.weightless.append(weightless | here)
        self.straight.append((above(self.straight) if _is_straight(node) else 0) | here)
        self.ungated.append((0 if _is_gated(node) else above(self.ungated)) | here)
        self.one.append(one)
        self.many.append(many)
        self.flat.append(weightless | weighted | opened | here)
        self.bent.append(bent)
        self._weighted.append(weighted)
        self._open.append(opened)


def _is_gated(node: Node) -> bool:
    return node.op is Op.NONLINEAR and node.name in ("mul", "div") and len(set(node.parents)) > 1


def _is_straight(node: Node) -> bool:
    if node.op is Op.LINEAR:
        return node.name not in REDUCTIONS
    return node.op in (Op.ADD, Op.WEIGHT, Op.NORM)
