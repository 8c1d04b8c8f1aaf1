"""Sets that share their parts are sets, and those of a deep graph take memory by its layers."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from gamma_nlp.gains.additions import additions
from gamma_nlp.gains.reach import Reach
from gamma_nlp.gains.shared_sets import EMPTY, SharedSets
from gamma_nlp.graph.nodes import Graph, Op

KINDS = ("free", "flat")


@pytest.mark.parametrize("size", [5, 512, 513, 4_096, 4_097, 40_000])
def test_they_are_sets(size: int) -> None:
    chance, sets = random.Random(size), SharedSets(size)
    known: list[tuple[Any, set[int]]] = [(EMPTY, set())]
    for _ in range(200):
        (one, mine), (other, theirs) = chance.choice(known), chance.choice(known)
        number = chance.choice([0, size - 1, chance.randrange(size)])
        known.append((sets.added(sets.union(one, other), number), mine | theirs | {number}))
        # Whatever they hold in common, it is one object where it is all of one of them.
        assert sets.union(known[-1][0], one) is known[-1][0] and sets.union(one, one) is one
    for shared, plain in chance.sample(known, 40):
        for number in (0, size - 1, *chance.sample(range(size), 5), *list(plain)[:5]):
            assert sets.has(shared, number) == (number in plain)
        (second, theirs), (third, those) = chance.choice(known), chance.choice(known)
        assert sets.latest((shared, second), (third,)) == max(
            (plain & theirs) - those, default=None
        )
        assert sets.latest((shared,)) == max(plain, default=None)


def decoder(layers: int) -> Graph:
    """A stack of pre-norm layers: attention with positions made once, and a gated feed-forward."""
    graph = Graph()
    x = graph.add(Op.SOURCE, "embedding", ())
    positions = graph.add(Op.SOURCE, "positions", ())
    for _ in range(layers):
        y = graph.add(Op.NORM, "rms_norm", (x,))
        q, k, v = (graph.add(Op.WEIGHT, "linear", (y,)) for _ in range(3))
        turned = []
        for one in (q, k):
            half = graph.add(Op.LINEAR, "neg", (one,))
            parts = [graph.add(Op.NONLINEAR, "mul", (part, positions)) for part in (one, half)]
            turned.append(graph.add(Op.ADD, "add", parts))
        scores = graph.add(Op.SOFTMAX, "softmax", (graph.add(Op.CONTRACT, "matmul", turned),))
        out = graph.add(Op.WEIGHT, "linear", (graph.add(Op.CONTRACT, "matmul", (scores, v)),))
        x = graph.add(Op.ADD, "add", (x, out))
        y = graph.add(Op.NORM, "rms_norm", (x,))
        up, gate = (graph.add(Op.WEIGHT, "linear", (y,)) for _ in range(2))
        gated = graph.add(Op.NONLINEAR, "mul", (graph.add(Op.NONLINEAR, "silu", (gate,)), up))
        x = graph.add(Op.ADD, "add", (x, graph.add(Op.WEIGHT, "linear", (gated,))))
    graph.outputs = {graph.add(Op.WEIGHT, "linear", (graph.add(Op.NORM, "rms_norm", (x,)),))}
    return graph


def bytes_of(reach: Reach) -> int:
    """Bytes of all sets of a graph, what they share counted once."""
    seen: dict[int, int] = {}
    stack = [one for kind in KINDS for one in getattr(reach, kind)]
    while stack:
        part = stack.pop()
        if id(part) not in seen:
            seen[id(part)] = sys.getsizeof(part)
            stack += [one for one in part if one] if isinstance(part, tuple) else ()
    return sum(seen.values())


def test_the_memory_of_a_graph_grows_as_its_layers_do() -> None:
    few, many = (bytes_of(Reach(decoder(layers))) for layers in (180, 360))
    assert many < 2.3 * few  # one bit for each pair of nodes makes 4 of it
    assert len(additions(decoder(30))) == 60


def test_the_sets_are_the_ancestors() -> None:
    graph = decoder(30)
    reach, above = Reach(graph), list[set[int]]()
    for index, node in enumerate(graph.nodes):
        above.append({index}.union(*(above[parent] for parent in node.parents)))
        for other in range(0, len(graph.nodes), 7):
            assert reach.sets.has(reach.all[index], other) == (other in above[index])
