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
from dataclasses import replace

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages, operations, written_norms
from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.nodes import Graph, Node, Op, Scale
from gamma_nlp.graph.operands import Operand, exprs_of, is_scalar, nodes_of, scale_of


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
        nodes, exprs = nodes_of(operands), exprs_of(operands)
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
        if name in ("addcmul", "addcdiv") and len(operands) == 3 and nodes_of(operands[1:]):
            scaled = Operand(
                node=self._product(f"{name[4:]}", operands[1:]), expr=None, shape=shape
            )
            return self._sum("add", nodes_of((operands[0], scaled)), exprs_of(operands[:1]))
        if name in ("mul", "div"):
            return self._product(name, operands)
        if name == "lerp" and all(o.node is not None for o in operands[:2]):
            return self.node(Op.ADD, name, nodes[:2])  # (1 - t) * x + t * y
        if name in operations.LINEAR:
            return self.node(Op.LINEAR, name, nodes)
        matrices = [o for o in operands if o.expr and o.is_contracted(shape)]
        if matrices:  # an unknown operation that takes a matrix: a kernel that contracts
            return self._weight(name, nodes, exprs_of(matrices))
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
        nodes, exprs = nodes_of(factors), exprs_of(factors)
        if exprs:
            product = self._weight(name, nodes, exprs)
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
        scores = self.node(Op.CONTRACT, name, nodes_of(operands[:2]))
        for bias in nodes_of(operands[3:4]):
            scores = self.node(Op.ADD, "add", (scores, bias))
        weights = self.node(Op.SOFTMAX, name, (scores,))
        return self.node(Op.CONTRACT, name, [weights, *nodes_of(operands[2:3])])

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
            scale = scale_of(affine[0].expr, kind)
            for shift in exprs_of(affine[1:]):
                self.graph.shifts |= shift.params
        assert signal.node is not None
        return self.node(Op.NORM, kind, nodes_of(operands), scale)

    def _sum(self, name: str, nodes: list[int], exprs: list[Expr]) -> int:
        if len(nodes) == 2:
            return written_norms.merge_unit_offset(self.graph, self.node(Op.ADD, name, nodes))
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

    def _product(self, name: str, operands: Sequence[Operand]) -> int:
        nodes, exprs = nodes_of(operands), exprs_of(operands)
        if len(nodes) == 2:
            pairs = [(nodes[0], nodes[1]), (nodes[1], nodes[0])]
            for signal, factor in pairs if name == "mul" else pairs[:1]:
                if written_norms.is_norm(self.graph, signal, factor):
                    early = written_norms.take_early_gain(self.graph, signal, factor)
                    plain = self.graph.nodes[signal].parents[0] if early else signal
                    centred = written_norms.is_centred(self.graph, plain)
                    form = "layer_norm" if centred else "rms_norm"
                    scale = replace(early, kind=form) if early else None
                    return self.node(Op.NORM, form, (signal,), scale)
            return self.node(Op.NONLINEAR, name, nodes)
        factors = frozenset(p for expr in exprs for p in expr.params)
        if any(o.root or (o.expr is not None and o.expr.root) for o in operands):
            scale = scale_of(exprs[0], "batch_norm") if len(exprs) == 1 else None
            return self.node(Op.NORM, "batch_norm", nodes, scale, factors)
        scale = None
        if name == "mul" and len(exprs) == 1:
            scalar = is_scalar(operands)
            kind = written_norms.norm_behind(self.graph, nodes[0], scalar, self.where())
            kind = kind or written_norms.squash_behind(self.graph, nodes[0], scalar)
            scale = scale_of(exprs[0], kind)
        return self.node(Op.LINEAR, name, nodes, scale, factors)

    def _weight(self, name: str, nodes: Iterable[int], exprs: Iterable[Expr]) -> int:
        contracted = frozenset(p for expr in exprs for p in expr.contracted)
        self.graph.weights |= contracted
        return self.node(Op.WEIGHT, name, nodes, factors=contracted)
