"""From a graph and a table to the picture: blocks, streams, few boxes, folded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gamma_nlp.draw.blocks import find_blocks
from gamma_nlp.draw.compact import Compact, label_of
from gamma_nlp.draw.fold import folded
from gamma_nlp.draw.sequence import Sequences
from gamma_nlp.draw.stream import Dot, Element, Picture
from gamma_nlp.draw.towers import make_towers
from gamma_nlp.gains.rule import Use, uses
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.graph.nodes import Graph, Op


def make_picture(model: nn.Module, graph: Graph, table: GainTable) -> Picture:
    """Return the picture of one forward pass.

    Args:
        model: The model that was traced.
        graph: The graph of the pass.
        table: Its gains: they give names and categories, and with them the colours.
    """
    first = {id(p): name for name, p in model.named_parameters()}
    named = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    gains = {gain.name: gain for gain in table if gain.category is not None}
    used = {use.node: use for use in uses(graph) if named[use.parameter] in gains}
    blocks = find_blocks(graph, used)
    boxes = Compact(graph)

    def draw(nodes: Sequence[int]) -> Element:
        if nodes[0] in used:
            return _dot(used[nodes[0]], gains[named[used[nodes[0]].parameter]])
        return boxes.box(nodes)

    def is_weight(node: int) -> bool:
        return graph.nodes[node].op is Op.WEIGHT

    sequences = Sequences(blocks, draw, used.__contains__, is_weight)
    towers = make_towers(blocks, sequences, used.__contains__, is_weight)
    compact = Compact(graph, towers.ends)
    return Picture(
        model=table.model,
        towers=tuple(folded(compact.stream(tower)) for tower in towers.streams),
        links=towers.links,
    )


def _dot(use: Use, gain: Gain) -> Dot:
    assert gain.category is not None
    return Dot(
        nodes=(use.node,),
        gains=(gain.name,),
        label=label_of(gain.name),
        category=gain.category,
        placed=use.category,
        kind=gain.kind,
        offset=gain.offset,
    )
