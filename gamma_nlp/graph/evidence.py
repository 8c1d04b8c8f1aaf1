"""What operations show of the roles of parameters and no node holds: sums, biases, tokens."""

from __future__ import annotations

from collections.abc import Iterable

from gamma_nlp.graph import operations
from gamma_nlp.graph.affine import Expr
from gamma_nlp.graph.call import Call
from gamma_nlp.graph.held import sides
from gamma_nlp.graph.nodes import Graph, Op


def note_use(graph: Graph, call: Call, node: int) -> None:
    """Note what an operation says of parameters that its node does not hold."""
    name, values = call.name, call.values
    exprs = [(t, v.expr) for t, v in zip(call.tensors, values, strict=True) if v.expr is not None]
    if operations.is_attention(name):
        note_tokens(graph, values[0].rows)  # a learned query
        exprs = exprs[-1:] if len(values) > 3 and values[3].expr is not None else []
        graph.biases.update(*(expr.added for _, expr in exprs))
    if operations.is_attention(name) or name in operations.SUMS:
        for _, expr in exprs:
            for param in expr.added:
                graph.sums.setdefault(param, set()).add(node)
    elif name in operations.FILLS:
        note_tokens(graph, (row for v in values for row in v.rows))


def filters(graph: Graph, call: Call) -> list[Expr]:
    """Return the matrices in a product on a spectrum, which is a convolution of the signal."""
    if call.name != "mul" or not call.outputs[0].is_complex():
        return []
    if not any(_is_spectrum(graph, node) for node in call.nodes):
        return []
    return [
        value.expr
        for tensor, value in zip(call.tensors, call.values, strict=True)
        if value.expr is not None and sides(tensor) > 1
    ]


def note_tokens(graph: Graph, names: Iterable[str]) -> None:
    """Note parameters that stand as tokens where no node shows them."""
    for name in names:
        graph.tokens.setdefault(name, None)


def leave_idle(graph: Graph, gains: Iterable[str]) -> None:
    """Note gains that a norm multiplies by nothing; another use touches them again."""
    gains = set(gains)
    graph.idle |= gains
    graph.touched -= gains


def _is_spectrum(graph: Graph, node: int) -> bool:
    while True:
        entry = graph.nodes[node]
        if entry.name.startswith("_fft"):
            return True
        if entry.op is not Op.LINEAR or not entry.parents:
            return False
        node = entry.parents[0]
