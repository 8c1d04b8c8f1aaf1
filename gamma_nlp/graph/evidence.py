"""What operations show of the roles of parameters and no node holds: sums, biases, tokens."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gamma_nlp.graph import operations
from gamma_nlp.graph.held import sides
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.values import Value


def note_use(
    graph: Graph,
    name: str,
    tensors: list[torch.Tensor],
    values: list[Value],
    node: int,
    output: torch.Tensor,
) -> None:
    """Note what an operation says of parameters that its node does not hold."""
    exprs = [(t, v.expr) for t, v in zip(tensors, values, strict=True) if v.expr is not None]
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
    elif name == "mul" and output.is_complex():
        # On a spectrum, a product is a convolution.
        signals = [v.node for v in values if v.node is not None]
        if any(_is_spectrum(graph, node) for node in signals):
            matrices = [expr for tensor, expr in exprs if sides(tensor) > 1]
            graph.weights.update(*(expr.contracted for expr in matrices))


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
