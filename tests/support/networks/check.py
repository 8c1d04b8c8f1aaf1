"""Compare what the graph says of a random network with how the network was built."""

from __future__ import annotations

import functools
import warnings

from gamma_nlp import GammaError
from gamma_nlp.gains.by_graph import from_graph
from gamma_nlp.graph.nodes import Graph
from gamma_nlp.graph.trace import trace

from . import Network, make


@functools.cache
def traced(seed: int) -> tuple[Network, Graph]:
    network = make(seed)
    return network, trace(network.module, network.inputs)


def wrong(seed: int) -> str | None:
    """What the graph places otherwise than the generator did, or ``None``."""
    network, graph = traced(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unused norms
        table = from_graph(network.module, graph)
    found = {gain.name: (gain.category, gain.offset) for gain in table}
    kinds = {gain.name: gain.kind for gain in table}
    lines = [
        f"  {name}: found {found.get(name)}, built as {network.labels.get(name)}"
        for name in sorted({*found, *network.labels})
        if found.get(name) != network.labels.get(name)
    ]
    lines += [
        f"  {name}: found {kinds[name]}, built {'as' if query else 'not as'} a query or a key"
        for name, query in network.queries.items()
        if name in kinds and (kinds[name] == "qk_norm") is not query
    ]
    if not lines:
        return None
    return "\n".join([f"seed {seed}: {network.description}", *lines])


def misplaces(seed: int) -> bool:
    """Whether changed source places some gain otherwise; an error for source that does not run."""
    try:
        return wrong(seed) is not None
    except GammaError as error:
        if error.__cause__ is not None:
            raise  # the mutation does not run
        return True  # a norm whose gain is not found
