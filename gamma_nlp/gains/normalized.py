"""Which weights a norm follows, so that scaling one of them scales nothing that the model returns.

A weight is normalised if every path from it to an output crosses a norm. In a transformer with a
final norm these are all but the output layer, as in AdamC (Defazio 2025, arXiv:2506.02285). One
such weight need not be scale-invariant by itself: the residual stream joins many before the norm.
"""

from __future__ import annotations

from gamma_nlp.graph.nodes import Graph, Op


def normalized_weights(graph: Graph) -> set[str]:
    """Return the contracted parameters that a norm follows on every path to an output."""
    below = graph.children()
    ends = graph.outputs or {index for index, after in enumerate(below) if not after}
    bare: set[str] = set()
    seen, left = set(ends), list(ends)
    while left:
        node = graph.nodes[left.pop()]
        if node.op is Op.NORM:
            continue
        if node.op is Op.WEIGHT:
            bare |= node.factors
        new = set(node.parents) - seen
        seen |= new
        left += new
    return {name for node in graph.nodes if node.op is Op.WEIGHT for name in node.factors} - bare
