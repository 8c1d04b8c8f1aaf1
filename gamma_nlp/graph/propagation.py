"""What the outputs of an operation hold, given what is known of its operands.

An output is an activation, made of parameters, a choice or a constant, see
:class:`~gamma_nlp.graph.values.Value`. Nodes come from :mod:`gamma_nlp.graph.interpreter`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gamma_nlp.graph import operations, parts
from gamma_nlp.graph.affine import Expr, combine
from gamma_nlp.graph.call import Call
from gamma_nlp.graph.evidence import filters, leave_idle, note_tokens, note_use
from gamma_nlp.graph.held import HELD, is_matrix, is_quantised, sides
from gamma_nlp.graph.interpreter import Interpreter
from gamma_nlp.graph.nodes import Op
from gamma_nlp.graph.operands import Operand
from gamma_nlp.graph.slices import Slices
from gamma_nlp.graph.values import Value, carries_signal


class Propagation:
    """Propagates values through operations.

    Args:
        interpreter: What adds the nodes.
        tokens: The parameters used as tokens; those that are found are added.
    """

    def __init__(self, interpreter: Interpreter, tokens: set[str]) -> None:
        self.graph = interpreter.graph
        self.tokens = tokens
        self._interpreter = interpreter
        self._slices = Slices(interpreter.graph, interpreter.node)

    def outputs(self, call: Call, fresh: bool) -> tuple[list[Value], Value]:
        """Return the values of an operation's outputs, and of memory that it writes to.

        Args:
            call: The operation.
            fresh: Whether it gives memory that nothing has been written to.
        """
        if call.name in operations.SAMPLERS and call.values[0].node is not None:
            call = self._steered(call)
        discrete = Value(from_input=call.from_input, from_signal=call.from_signal)
        choices = list(dict.fromkeys(v.choice for v in call.values if v.choice is not None))
        active = bool(call.nodes)
        carries = [carries_signal(t) or (active and is_quantised(t)) for t in call.outputs]
        if call.name in operations.CONSTANTS:
            result = discrete = Value(noise=call.kernel.random)
        elif fresh:
            result = Value(unwritten=any(t.numel() > 0 for t in call.outputs))
        elif any(carries):
            result = self._signal(call)
            if choices and result.node is not None:
                node = self._interpreter.follow("choose", (result.node, *choices))
                result = replace(result, node=node)
        else:
            result = discrete
            if not call.from_input:  # a packed matrix that is about to be unpacked
                discrete.expr = self._made(call)
                discrete.held = any(v.held for v in call.values)
        slices = self._slices.of(call, result, choices)
        if call.name not in operations.CONSTANTS and not all(carries):
            discrete.choice = self._choice(call, choices)
        found = []
        for carried, own in zip(carries, slices, strict=True):
            value = result if carried else replace(discrete, expr=result.expr)
            if carried and own is not None and own.node is not None:
                value = replace(value, node=own.node, join=own.join)
            found.append(value)
        return found, found[0] if carries[:1] == [True] else result

    def _steered(self, call: Call) -> Call:
        """Return a call whose second operand steers it, as an index does, and is no signal."""
        where = call.values[1]
        if where.node is None:
            return call
        choice = self._interpreter.node(Op.CHOICE, call.name, (where.node,))
        steers = Value(choice=choice, from_input=True, from_signal=True)
        return replace(call, values=[call.values[0], steers, *call.values[2:]])

    def _choice(self, call: Call, choices: list[int]) -> int | None:
        nodes = call.nodes
        if not nodes and len(choices) < 2:
            return choices[0] if choices else None
        return self._interpreter.node(Op.CHOICE, call.name, [*nodes, *choices])

    def _signal(self, call: Call) -> Value:
        name, tensors, values = call.name, call.tensors, call.values
        table = values[0].expr if values else None
        if table is not None and (
            name in operations.LOOKUPS
            or (name in operations.INDEXING and any(v.from_input for v in values[1:]))
        ):
            if any(v.from_signal for v in values[1:]) and sides(tensors[0]) > 2:
                # What the signal picks from a stack of matrices is an expert, and still a matrix.
                self.graph.weights |= table.contracted
                choice = next((v.choice for v in values[1:] if v.choice is not None), None)
                return Value(expr=Expr(table.params, parts=table.parts), choice=choice)
            self.graph.embeddings.update(table.contracted)
            return Value(node=self._interpreter.node(Op.SOURCE, name))
        weighs = name in operations.CONTRACTIONS and any(
            v.expr is not None and is_matrix(t) for t, v in zip(tensors, values, strict=True)
        )
        if weighs and not call.nodes:
            call = replace(call, values=[self._source(v) if v.noise else v for v in values])
        if call.nodes:
            return self._activation(call)
        if call.from_input and not any(v.expr for v in values):
            return Value(node=self._interpreter.node(Op.SOURCE, name))
        rows = self._normalised_rows(name, values)
        self.tokens |= rows
        if rows:
            return Value(node=self._interpreter.node(Op.SOURCE, name))  # until the next run
        if operations.is_norm(name) and table is None:
            # Nothing is left of a constant but the norm's bias.
            leave_idle(self.graph, (p for v in values[1:2] if v.expr for p in v.expr.params))
            values = [replace(v, expr=None) if i == 1 else v for i, v in enumerate(values)]
            call = replace(call, values=values)
        elif name in operations.NORMALISE_TOKENS:  # of what weights have made of a constant
            source = Value(node=self._interpreter.node(Op.SOURCE, name))
            return Value(node=self._interpret(replace(call, values=[source, *values[1:]])))
        elif table and name in operations.INDEXING and _repeats_rows(tensors[0], call.outputs[0]):
            self.graph.embeddings |= table.added
        expr = self._made(call)
        if expr is not None:
            return Value(expr=expr)
        return Value(
            held=any(v.held for v in values),
            noise=call.kernel.random or any(v.noise for v in values),
            statistic=_statistic(name, values),
        )

    def _activation(self, call: Call) -> Value:
        """Return what an operation makes of activations, and note what it shows of parameters."""
        name, values = call.name, call.values
        if call.kernel.packed:  # the matrix is in an object that is no tensor
            return Value(node=self._interpreter.node(Op.WEIGHT, name, call.nodes))
        if found := filters(self.graph, call):
            self.graph.weights.update(*(expr.contracted for expr in found))
            return Value(node=self._interpreter.node(Op.WEIGHT, name, call.nodes))
        if name in ("cat", "stack"):
            with_signal = {row for v in values for row in v.rows}
            # Positions may be added to a class token too, and do not become one.
            self.tokens |= with_signal - self.graph.weights - self.graph.sums.keys()
        node = self._interpret(call)
        note_use(self.graph, call, node)
        return Value(node=node)

    def _normalised_rows(self, name: str, values: list[Value]) -> frozenset[str]:
        """Return the parameters that an operation on parameters alone normalises as tokens."""
        if name in operations.NORMALISE_TOKENS:
            return values[0].rows
        known = [v.expr.parts if v.expr else None for v in values]
        if name in operations.PRODUCTS:
            return parts.normalised(known)
        if name in operations.CONTRACTIONS:
            return parts.read_as_rows(name, known)
        return frozenset()

    def _interpret(self, call: Call) -> int:
        tensors = call.tensors
        operands = [
            Operand(
                node=v.node,
                expr=HELD if v.held and call.kernel.weighs(t, tensors[0]) else v.expr,
                shape=tuple(t.shape),
                root=v.statistic == "root",
            )
            for t, v in zip(tensors, call.values, strict=True)
        ]
        return self._interpreter.interpret(call.name, operands, tuple(call.outputs[0].shape))

    def _made(self, call: Call) -> Expr | None:
        """Return what an operation on parameters and constants gives, and note their roles."""
        exprs = [v.expr for v in call.values]
        root = _statistic(call.name, call.values) == "root"
        expr = combine(
            call.name, call.args, call.tensors, exprs, alpha=call.kernel.alpha, root=root
        )
        if expr is None or not call.outputs:
            return expr
        if expr.slope == 0:  # a norm of zeros, written out, times its gain
            leave_idle(self.graph, expr.params)
            return None
        known = [e.parts if e else None for e in exprs]
        made = parts.make(call.name, call.tensors, known, call.outputs[0])
        self.graph.weights |= made.weights
        self.graph.biases |= made.biases
        projected = (n for n, p in made.parts.of.items() if p is parts.Part.PROJECTED)
        note_tokens(self.graph, projected)
        return replace(expr, parts=made.parts)

    def _source(self, value: Value) -> Value:
        return replace(value, node=self._interpreter.node(Op.SOURCE, "noise"), noise=False)


def _statistic(name: str, values: list[Value]) -> str | None:
    """Return what a constant is made of, as :attr:`Value.statistic`."""
    found = {v.statistic for v in values} - {None}
    if not found:
        return None
    return "root" if "root" in found or name in operations.ROOTS else "plain"


def _repeats_rows(table: torch.Tensor, picked: torch.Tensor) -> bool:
    return sides(table) == 2 and picked.numel() > table.numel()
