"""Draw a residual graph by hand, and name its categories shortly."""

from __future__ import annotations

from dataclasses import replace

from gamma_nlp.gains.category import Category
from gamma_nlp.graph.nodes import Graph, Op, Scale

SHORTCUT, HEAD = Category.SHORTCUT, Category.HEAD
LAST, INNER = Category.BRANCH_LAST, Category.BRANCH_INNER

Places = dict[str, tuple[Category, str, int | None]]


class Draft:
    """Adds nodes to a graph; every method takes and returns nodes."""

    def __init__(self) -> None:
        self.graph = Graph()

    def op(self, op: Op, *parents: int, name: str = "") -> int:
        return self.graph.add(op, name or op.value, parents)

    def source(self) -> int:
        return self.op(Op.SOURCE)

    def weight(self, x: int) -> int:
        return self.op(Op.WEIGHT, x)

    def mlp(self, x: int) -> int:
        return self.weight(self.op(Op.NONLINEAR, self.weight(x)))

    def add(self, x: int, y: int) -> int:
        return self.op(Op.ADD, x, y)

    def subtract(self, x: int, y: int) -> int:
        return self.op(Op.ADD, x, y, name="sub")

    def total(self, x: int) -> int:
        """One number, the mean of x."""
        index = self.op(Op.LINEAR, x, name="mean")
        self.graph.nodes[index] = replace(self.graph.nodes[index], total=True)
        return index

    def norm(self, x: int, gain: str) -> int:
        scale = Scale(parameter=gain, offset=0, kind="layer_norm")
        return self.graph.add(Op.NORM, "layer_norm", (x,), scale=scale)

    def vector(self, x: int, name: str) -> int:
        scale = Scale(parameter=name, offset=0, kind=None)
        return self.graph.add(Op.LINEAR, "mul", (x,), scale=scale, factors=frozenset([name]))

    def attention(self, query: int, key: int) -> int:
        return self.op(Op.CONTRACT, self.op(Op.SOFTMAX, self.op(Op.CONTRACT, query, key)), key)
