"""Which nodes of a graph reach which, and past what.

Every node has a set of its ancestors, several times over. They share their parts
(:mod:`gamma_nlp.gains.shared_sets`), so that memory grows with the number of layers.
"""

from __future__ import annotations

from gamma_nlp.gains.shared_sets import EMPTY, Set, SharedSets
from gamma_nlp.graph.nodes import Graph, Node, Op
from gamma_nlp.graph.operations import REDUCTIONS

_BENDS = frozenset({Op.NONLINEAR, Op.SOFTMAX, Op.CONTRACT})


class Reach:
    """For every node, its ancestors, itself included, by what the paths from them cross.

    Attributes:
        sets: What reads these sets.
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
        self.sets = SharedSets(len(graph.nodes))
        self.all: list[Set] = []
        self.free: list[Set] = []
        self.weightless: list[Set] = []
        self.straight: list[Set] = []
        self.ungated: list[Set] = []
        self.one: list[Set] = []
        self.many: list[Set] = []
        self.flat: list[Set] = []
        self.bent: list[Set] = []
        # Of the paths in `flat`: with a weight and nothing after it, and with a nonlinearity.
        self._weighted: list[Set] = []
        self._open: list[Set] = []
        for index, node in enumerate(graph.nodes):
            self._add(index, node, () if node.op is Op.CHOICE else node.parents)

    def _add(self, index: int, node: Node, parents: tuple[int, ...]) -> None:
        def above(sets: list[Set]) -> Set:
            found = EMPTY
            for parent in parents:
                found = self.sets.union(found, sets[parent])
            return found

        def here(*sets: Set) -> Set:
            found = EMPTY
            for one in sets:
                found = self.sets.union(found, one)
            return self.sets.added(found, index)

        weightless, weighted = above(self.weightless), above(self._weighted)
        opened, bent = above(self._open), above(self.bent)
        one, many = above(self.one), above(self.many)
        free = above(self.free)
        if node.op is Op.WEIGHT:
            one, many = weightless, self.sets.union(many, one)
            weighted, opened, bent = (
                self.sets.union(weighted, weightless),
                EMPTY,
                self.sets.union(bent, opened),
            )
            weightless = free = EMPTY
        elif node.op in _BENDS:
            weighted, opened = EMPTY, self.sets.union(opened, weighted)
        elif node.op is Op.NORM:
            free = EMPTY
        self.all.append(here(above(self.all)))
        self.free.append(here(free))
        self.weightless.append(here(weightless))
        self.straight.append(here(above(self.straight)) if _is_straight(node) else here())
        self.ungated.append(here() if _is_gated(node) else here(above(self.ungated)))
        self.one.append(one)
        self.many.append(many)
        self.flat.append(here(weighted, opened, weightless))
        self.bent.append(bent)
        self._weighted.append(weighted)
        self._open.append(opened)


def _is_gated(node: Node) -> bool:
    return node.op is Op.NONLINEAR and node.name in ("mul", "div") and len(set(node.parents)) > 1


def _is_straight(node: Node) -> bool:
    if node.op is Op.LINEAR:
        return node.name not in REDUCTIONS
    return node.op in (Op.ADD, Op.WEIGHT, Op.NORM)
