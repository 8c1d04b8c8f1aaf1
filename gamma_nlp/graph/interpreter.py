"""What one operation on activations does to the signal: the node, or nodes, that it adds.

Works on names and operands, without tensors. An operand is a node (an activation), an expression of
parameters, or neither (a constant). What models write in several operations becomes the one node
that it stands for::

    the model computes                   the graph holds
    x * rsqrt(mean(x ** 2) + eps)        a NORM of x
    norm(x) * w                          a LINEAR of the norm, with scale w and offset 0
    norm(x) * (1 + w)                    ... with offset 1: 1 + w is an affine expression
    y + y * w, where y = norm(x)         ... with offset 1: the same gain, the 1 added last
    x + F(x)                             an ADD of two signals

A *scale* marks the node at which a parameter multiplies the signal. After a norm it is a gain, and
has a ``kind``. Elsewhere it is a candidate: the rule calls it a layer scale where it multiplies a
whole branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages, operations
from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.nodes import Graph, Node, Op, Scale


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


class Interpreter:
    """Adds nodes to a graph, operation by operation.

    Args:
        graph: The graph to add to.
        where: Returns the name of the module that is running.
    """

    def __init__(self, graph: Graph, where: Callable[[], str]) -> None:
        self.graph = graph
        self.where = where

    def node(
        self,
        op: Op,
        name: str,
        parents: Iterable[int] = (),
        scale: Scale | None = None,
        factors: frozenset[str] = frozenset(),
    ) -> int:
        return self.graph.add(op, name, parents, self.where(), scale, factors)

    def follow(self, name: str, parents: Sequence[int]) -> int:
        """Add a node for a value that stays what it is but depends on more than before."""
        node = self.node(Op.LINEAR, name, parents)
        if self.graph.nodes[parents[0]].total:
            self._mark_total(node)
        return node

    def interpret(self, name: str, operands: Sequence[Operand], shape: tuple[int, ...]) -> int:
        """Add an operation with at least one activation among its operands.

        Args:
            name: The operation, named as in :mod:`gamma_nlp.graph.operations`.
            operands: Its tensor arguments.
            shape: The shape of its first output.

        Returns:
            The node of its output.

        Raises:
            GammaError: It fuses a norm with a weight or an addition.
        """
        before = len(self.graph.nodes)
        node = self._meaning(name, operands, shape)
        if node >= before and self._is_total(self.graph.nodes[node], operands, shape):
            self._mark_total(node)
        return node

    def _is_total(self, node: Node, operands: Sequence[Operand], shape: tuple[int, ...]) -> bool:
        if node.op in (Op.WEIGHT, Op.NORM):
            return False
        if any(self.graph.nodes[parent].total for parent in node.parents):
            return all(self.graph.nodes[p].total for p in node.parents) or math.prod(shape) == 1
        if node.name not in operations.REDUCTIONS and "loss" not in node.name:
            return False
        before = max((o.shape for o in operands if o.node is not None), key=math.prod)
        items = shape[:1] == before[:1] and len(before) > 1 and math.prod(shape) == before[0]
        return math.prod(shape) < math.prod(before) and (math.prod(shape) == 1 or items)

    def _mark_total(self, node: int) -> None:
        self.graph.nodes[node] = replace(self.graph.nodes[node], total=True)

    def _meaning(self, name: str, operands: Sequence[Operand], shape: tuple[int, ...]) -> int:
        nodes, exprs = _nodes(operands), _exprs(operands)
        if name in operations.MOVES and len(nodes) == 1 and not exprs:
            return nodes[0]
        if len(operands) >= 3 and operations.is_attention(name):
            return self._attention(name, operands)
        if name in operations.CONTRACTIONS:
            return self._contraction(name, operands)
        if "norm" in name and name not in operations.NO_NORM:
            return self._fused_norm(name, operands, shape)
        if "softmax" in name and "log_softmax" not in name:
            return self.node(Op.SOFTMAX, name, nodes)
        if name in operations.SUMS:
            return self._sum(name, nodes, exprs)
        if name in ("sum", "mean") and len(nodes) == 1:
            summands = self._stacked(nodes[0], operands[0].shape, shape)
            return self._sum_of_all(summands) if summands else self.node(Op.LINEAR, name, nodes)
        if name in ("addcmul", "addcdiv") and len(operands) == 3 and _nodes(operands[1:]):
            scaled = Operand(
                node=self._product(f"{name[4:]}", operands[1:]), expr=None, shape=shape
            )
            return self._sum("add", _nodes((operands[0], scaled)), _exprs(operands[:1]))
        if name in ("mul", "div"):
            return self._product(name, operands)
        if name == "lerp" and all(o.node is not None for o in operands[:2]):
            return self.node(Op.ADD, name, nodes[:2])  # (1 - t) * x + t * y
        if name in operations.LINEAR:
            return self.node(Op.LINEAR, name, nodes)
        matrices = [o for o in operands if o.expr and o.is_contracted(shape)]
        if matrices:  # an unknown operation that takes a matrix: a kernel that contracts
            self._mark_weights(_exprs(matrices))
            return self.node(Op.WEIGHT, name, nodes)
        return self.node(Op.NONLINEAR, name, nodes)

    def _contraction(self, name: str, operands: Sequence[Operand]) -> int:
        factors, bias = operands, operands[:0]
        if name in operations.BIAS_FIRST:
            bias, factors = operands[:1], operands[1:]
        elif name == "linear" or "conv" in name:
            factors, bias = operands[:2], operands[2:]
        elif name in operations.RECURRENT:
            states = [operand for operand in operands[5:] if operand.node is not None]
            factors, bias = [*operands[:3], *states], operands[3:5]
        nodes, exprs = _nodes(factors), _exprs(factors)
        if exprs:
            self._mark_weights(exprs)
            product = self.node(Op.WEIGHT, name, nodes)
        else:
            product = self.node(Op.CONTRACT if len(nodes) > 1 else Op.LINEAR, name, nodes)
        for operand in bias:
            if operand.node is not None:
                product = self.node(Op.ADD, "add", (product, operand.node))
            elif operand.expr is not None:
                self.graph.biases |= operand.expr.added
        return product

    def _attention(self, name: str, operands: Sequence[Operand]) -> int:
        """Add a fused attention as eager attention would be recorded."""
        scores = self.node(Op.CONTRACT, name, _nodes(operands[:2]))
        for bias in _nodes(operands[3:4]):
            scores = self.node(Op.ADD, "add", (scores, bias))
        weights = self.node(Op.SOFTMAX, name, (scores,))
        return self.node(Op.CONTRACT, name, [weights, *_nodes(operands[2:3])])

    def _fused_norm(self, name: str, operands: Sequence[Operand], shape: tuple[int, ...]) -> int:
        kind = next((k for word, k in operations.NORM_KINDS.items() if word in name), "layer_norm")
        signal = next(o for o in operands if o.node is not None)
        affine = [o for o in operands if o.expr is not None]
        matrices = [
            o for o in affine if o.is_contracted(shape) and o.shape != shape[-len(o.shape) :]
        ]
        summands = [o for o in operands if o.node is not None and o.shape == shape]
        if matrices or len(affine) > 2 or len(summands) > 1:
            other = "an addition" if len(summands) > 1 else "a weight"
            raise GammaError(messages.fused_kernel(self.where(), name, other))
        scale = None
        if affine:
            scale = _scale(affine[0].expr, kind)
            for shift in _exprs(affine[1:]):
                self.graph.shifts |= shift.params
        assert signal.node is not None
        return self.node(Op.NORM, kind, _nodes(operands), scale)

    def _sum(self, name: str, nodes: list[int], exprs: list[Expr]) -> int:
        if len(nodes) == 2:
            return self._unit_offset(self.node(Op.ADD, name, nodes))
        scale = self.graph.nodes[nodes[0]].scale
        for expr in exprs:
            after_gain = scale is not None and scale.kind is not None
            (self.graph.shifts if after_gain else self.graph.biases).update(expr.added)
        return self.node(Op.LINEAR, name, nodes)

    def _stacked(
        self, node: int, shape: tuple[int, ...], reduced: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the parts of a stack that is summed over its layers, () if it is none.

        Factors of the layers, as in ``(stack * w).sum(0)``, change nothing.
        """
        entry = self.graph.nodes[node]
        while entry.op is Op.LINEAR and entry.name in ("mul", "div", "neg"):
            entry = self.graph.nodes[entry.parents[0]]
        layers = len(entry.parents)
        whole = math.prod(shape) == layers * math.prod(reduced)
        return entry.parents if entry.name == "stack" and layers > 1 and whole else ()

    def _sum_of_all(self, summands: Sequence[int]) -> int:
        total = summands[0]
        for summand in summands[1:]:
            total = self.node(Op.ADD, "add", (total, summand))
        return total

    def _unit_offset(self, total: int) -> int:
        """Turn ``y + y * w`` into one product of y with ``1 + w``.

        ::

            y ──┬────────┐            y ── * (w + 1) ──▶
                └─ * w ──+ ──▶   =
        """
        first, second = self.graph.nodes[total].parents
        for plain, scaled in ((first, second), (second, first)):
            product = self.graph.nodes[scaled]
            # A fused norm has a scale too, but y + norm(y) is a sum of two signals.
            if product.op is not Op.LINEAR or product.parents != (plain,):
                continue
            if product.scale is not None:
                scale = replace(product.scale, offset=product.scale.offset + 1)
                self.graph.nodes[total] = replace(
                    self.graph.nodes[total], op=Op.LINEAR, parents=(plain,), scale=scale
                )
                self.graph.nodes[scaled] = replace(product, scale=None)
        return total

    def _product(self, name: str, operands: Sequence[Operand]) -> int:
        nodes, exprs = _nodes(operands), _exprs(operands)
        if len(nodes) == 2:
            pairs = [(nodes[0], nodes[1]), (nodes[1], nodes[0])]
            for signal, factor in pairs if name == "mul" else pairs[:1]:
                if self._is_norm(signal, factor):
                    early = self._early(signal, factor)
                    plain = self.graph.nodes[signal].parents[0] if early else signal
                    form = "layer_norm" if self._is_centred(plain) else "rms_norm"
                    scale = replace(early, kind=form) if early else None
                    return self.node(Op.NORM, form, (signal,), scale)
            return self.node(Op.NONLINEAR, name, nodes)
        factors = frozenset(p for expr in exprs for p in expr.params)
        if any(o.root or (o.expr is not None and o.expr.root) for o in operands):
            scale = _scale(exprs[0], "batch_norm") if len(exprs) == 1 else None
            return self.node(Op.NORM, "batch_norm", nodes, scale, factors)
        scale = None
        if name == "mul" and len(exprs) == 1:
            scalar = _is_scalar(operands)
            kind = self._norm_behind(nodes[0], scalar) or self._squash_behind(nodes[0], scalar)
            scale = _scale(exprs[0], kind)
        return self.node(Op.LINEAR, name, nodes, scale, factors)

    def _squash_behind(self, node: int, scalar: bool) -> str | None:
        """Turn ``tanh(a * x)``, about to meet a gain, into the norm that it stands for."""
        entry = self.graph.nodes[node]
        if entry.name not in operations.SQUASHES or len(entry.parents) != 1 or scalar:
            return None
        before = self.graph.nodes[entry.parents[0]]
        while before.op is Op.LINEAR and before.name in _AFFINE:
            if before.scale is not None and before.scale.kind is not None:
                return None  # the gain of a norm, followed by an activation
            if before.factors:
                kind = "elementwise_norm"
                self.graph.nodes[node] = replace(entry, op=Op.NORM, name=kind)
                return kind
            before = self.graph.nodes[before.parents[0]]
        return None

    def _is_norm(self, signal: int, factor: int) -> bool:
        """Return whether ``factor`` is a root of a reduction of what ``signal`` is made of.

        Then their product is a norm, written out; see :mod:`gamma_nlp.graph.operations`.
        """
        origin = self._pointwise_origin(signal)
        reduced = rooted = False
        stack, seen = [factor], set()
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            node = self.graph.nodes[current]
            rooted = rooted or node.name in operations.ROOTS
            if node.name in operations.TOTALS and any(
                origin & self._pointwise_origin(parent) for parent in node.parents
            ):
                reduced = True
            elif node.name in operations.STATISTIC | operations.TOTALS and current != signal:
                stack.extend(node.parents)
            else:
                return False
        return rooted and reduced

    def _early(self, signal: int, factor: int) -> Scale | None:
        """Take the gain of ``w * (x - mean) / std``, which multiplies before the division.

        A factor that the statistic contains too is not a gain: the division cancels it.
        """
        entry = self.graph.nodes[signal]
        if entry.scale is None or entry.scale.kind is not None:
            return None
        stack, seen = [factor], {factor}
        while stack:
            for parent in self.graph.nodes[stack.pop()].parents:
                if parent == signal:
                    return None
                if parent > signal and parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        self.graph.nodes[signal] = replace(entry, scale=None)
        return entry.scale

    def _is_centred(self, signal: int) -> bool:
        """Return whether a mean was subtracted from a signal."""
        node = self.graph.nodes[signal]
        if node.name != "sub" or len(node.parents) != 2:
            return False
        return self.graph.nodes[node.parents[1]].name in ("mean", "sum", "div", "var_mean")

    def _pointwise_origin(self, node: int) -> set[int]:
        """Return what a signal is made of by pointwise operations, itself included."""
        found: set[int] = set()
        stack = [node]
        while stack:
            current = stack.pop()
            if current in found:
                continue
            found.add(current)
            entry = self.graph.nodes[current]
            # A sum of two signals is where a new one begins; a centred signal is not.
            if entry.name in operations.POINTWISE and (
                entry.op is not Op.ADD or entry.name == "sub"
            ):
                stack.extend(entry.parents)
        return found

    def _norm_behind(self, node: int, scalar: bool) -> str | None:
        """Return the kind of the norm whose output ``node`` is, up to constant factors and shifts.

        A single number is the gain of a norm only in that norm's own module: outside it is a
        learned weight of a skip or a branch, which mixes signals.
        """
        while True:
            entry = self.graph.nodes[node]
            if entry.scale is not None:
                return None  # the norm has its gain already
            if entry.op is Op.NORM:
                return entry.name if not scalar or entry.module == self.where() else None
            if entry.op is not Op.LINEAR or entry.name not in _AFFINE:
                return None
            node = entry.parents[0]

    def _mark_weights(self, exprs: Iterable[Expr]) -> None:
        for expr in exprs:
            self.graph.weights |= expr.contracted


_AFFINE = ("mul", "div", "add", "sub", "neg")


def _is_scalar(operands: Iterable[Operand]) -> bool:
    return all(size == 1 for o in operands if o.expr is not None for size in o.shape)


def _nodes(operands: Iterable[Operand]) -> list[int]:
    return [o.node for o in operands if o.node is not None]


def _exprs(operands: Iterable[Operand]) -> list[Expr]:
    return [o.expr for o in operands if o.expr is not None]


def _scale(expr: Expr | None, kind: str | None) -> Scale | None:
    if expr is None or expr.offset is None:
        return None
    return Scale(parameter=next(iter(expr.params)), offset=expr.offset, kind=kind)
