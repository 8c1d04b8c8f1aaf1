"""From a model to its gain table: two independent sources, and their agreement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import nn

from gamma_nlp.deprecated import renamed_arguments
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.by_graph import from_graph
from gamma_nlp.gains.by_table import from_table
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.graph.trace import trace

Method = Literal["auto", "table", "graph"]


@renamed_arguments(example_inputs="inputs")
def categorize(model: nn.Module, inputs: Any = None, method: Method = "auto") -> GainTable:
    """Place every gain of a model in one of the four categories.

    Args:
        model: Any module; wrapped by DDP, ``torch.compile`` or PEFT, frozen, quantised or on the
            meta device. It is left exactly as it was.
        inputs: What the forward pass is called with to trace the residual graph: a
            tensor, a tuple of positional or a dict of keyword arguments. Models of transformers
            need none.
        method: ``"table"`` matches names and runs nothing; ``"graph"`` runs one forward pass;
            ``"auto"`` takes the table where there is one and else the graph. With
            ``inputs``, ``"auto"`` takes both and insists that they agree.

    Returns:
        The table, in the order of ``model.named_parameters()``.

    Raises:
        GammaError: A gain that cannot be placed, sources that disagree, a model without a table
            (``method="table"``), or inputs that are missing or do not fit.

    Example:
        >>> block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> [str(gain.category) for gain in categorize(block, torch.randn(3, 4))]
        ['head']
    """
    if not isinstance(model, nn.Module):
        raise GammaError(
            f"categorize takes a torch.nn.Module, not a {type(model).__name__}; load the model "
            "first: AutoModel.from_pretrained(...)"
        )
    if method not in ("auto", "table", "graph"):
        raise GammaError(f"method={method!r}: expected 'auto', 'table' or 'graph'")
    by_table = by_graph = None
    if method != "graph":
        by_table = from_table(model, required=method == "table")
    if method == "graph" or by_table is None or (method == "auto" and inputs is not None):
        by_graph = from_graph(model, trace(model, inputs))
    if by_table is not None and by_graph is not None:
        return _agreed(by_table, by_graph)
    table = by_graph if by_table is None else by_table  # one without gains is false
    assert table is not None
    return table


def _agreed(by_table: GainTable, by_graph: GainTable) -> GainTable:
    table = {gain.name: gain for gain in by_table}
    graph = {gain.name: gain for gain in by_graph}
    for name in dict.fromkeys([*table, *graph]):
        one, two = table.get(name), graph.get(name)
        if two and two.category is None:
            continue  # not reached by this forward pass: no contradiction
        if one is None or two is None or (one.category, one.offset) != (two.category, two.offset):
            raise GammaError(
                f"table and graph disagree on {name!r}: {_brief(one)} against {_brief(two)}; "
                "take the graph, which sees what this model computes: method='graph'"
            )
    gains = tuple(replace(gain, source="table+graph") for gain in by_graph)
    return replace(by_graph, gains=gains)


def _brief(gain: Gain | None) -> str:
    return "no gain" if gain is None else f"{gain.category or 'unused'}, offset {gain.offset:g}"
