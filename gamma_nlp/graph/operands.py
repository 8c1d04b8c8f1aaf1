"""The operands of an operation, as the interpreter takes them: nodes, expressions and shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.nodes import Scale


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A tensor argument: its node or its expression, and its shape.

    ``root`` says that it is a constant made by a root of the model's own statistics.
    """

    node: int | None
    expr: Expr | None
    shape: tuple[int, ...]
    root: bool = False

    def is_contracted(self, output: tuple[int, ...]) -> bool:
        """Return whether an operation with an output of this shape must contract the operand.

        Quantised matrices come packed into one column, which fits no side of the output.
        """
        sides = [size for size in self.shape if size > 1]
        if len(sides) == 1:
            return sides[0] not in output
        return len(sides) > 1 and self.shape != output


def is_scalar(operands: Iterable[Operand]) -> bool:
    """Return whether each expression among the operands is one number."""
    return all(size == 1 for o in operands if o.expr is not None for size in o.shape)


def nodes_of(operands: Iterable[Operand]) -> list[int]:
    """Return the activations among the operands."""
    return [o.node for o in operands if o.node is not None]


def exprs_of(operands: Iterable[Operand]) -> list[Expr]:
    """Return the values among the operands that are made of parameters."""
    return [o.expr for o in operands if o.expr is not None]


def scale_of(expr: Expr | None, kind: str | None) -> Scale | None:
    """Return the gain that a factor is; ``None`` if it is no affine function of one parameter."""
    if expr is None or expr.offset is None:
        return None
    return Scale(parameter=next(iter(expr.params)), offset=expr.offset, kind=kind)
