"""Which weights a norm follows, so that scaling one of them scales nothing that the model returns.

A weight is normalised if every path from it to an output crosses a norm. In a transformer with a
final norm these are all but the output layer, as in AdamC (Defazio 2025, arXiv:2506.02285). One
such weight need not be scale-invariant by itself: the residual stream joins many before the norm.
"""

from __future__ import annotations

from gamma_nlp.graph.nodes import Graph, Op


def normalized_weights(graph: Graph) -> set[str]:
    """Return the contracted parameters that a norm follows on every path to a last output.

    An output that others are made from is none: hidden states and caches are returned on the side.
    """
    ends = _last_outputs(graph)
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


def _last_outputs(graph: Graph) -> set[int]:
    below = graph.children()
    leads = [False] * len(graph.nodes)  # whether an output is made from it
    for index in reversed(range(len(graph.nodes))):
        leads[index] = any(leads[child] or child in graph.outputs for child in below[index])
    if graph.outputs:
        return {index for index in graph.outputs if not leads[index]}
    return {index for index, after in enumerate(below) if not after}
