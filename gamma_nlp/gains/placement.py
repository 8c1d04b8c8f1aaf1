"""From a model to its gain table, by two independent sources that must agree where both apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains.by_graph import from_graph
from gamma_nlp.gains.by_table import from_table
from gamma_nlp.gains.marks import with_marks
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.graph.trace import trace
from gamma_nlp.names import renamed_arguments

Method = Literal["auto", "table", "graph"]


@renamed_arguments(example_inputs="inputs")
def categorize(model: nn.Module, inputs: Any = None, method: Method = "auto") -> GainTable:
    """Place every gain of a model in one of the four categories.

    Args:
        model: Any module: wrapped by DDP, ``torch.compile`` or PEFT, frozen, quantised, on the meta
            device. It is left exactly as it was.
        inputs: What to call the model with, so that its residual graph can be traced: a tensor, a
            tuple of positional or a dict of keyword arguments. Models of transformers need none.
        method: ``"table"`` matches names and runs nothing; ``"graph"`` runs one forward pass;
            ``"auto"`` takes the name table if there is one and else the graph. With ``inputs``,
            ``"auto"`` takes both and insists that they agree.

    Returns:
        The gain table, in the order of ``model.named_parameters()``.

    Raises:
        GammaError: A gain cannot be placed, the sources disagree, there is no name table
            (``method="table"``), or inputs are missing or do not fit.

    Examples:
        A plain model, and what it is called with:

        >>> import torch
        >>> from torch import nn
        >>> from gamma_nlp import categorize, param_groups
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> table = categorize(model, torch.randn(3, 4))
        >>> print(table["1.weight"].category)
        head

        A model of your own, and the table to read:

        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm = nn.LayerNorm(4)
        ...         self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)
        ...     def forward(self, x):
        ...         return x + self.down(self.up(self.norm(x)).relu())
        >>> model = nn.Sequential(Block(), Block(), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> table = categorize(model, torch.randn(3, 4))
        >>> print(table)
        Sequential: 3 gains
        gain               n  category      kind        offset  dtype    source  why
        {0-1}.norm.weight  2  branch_inner  layer_norm       0  float32  graph     1
        2.weight           1  head          layer_norm       0  float32  graph     2
        <BLANKLINE>
        category      gains  elements  place
        branch_inner      2         8  feeds residual branches only, through a weight
        head              1         4  no residual addition after it
        <BLANKLINE>
        why
          1  feeds, through a weight, the branch of the addition in {0-1}
          2  no residual addition after it

        A policy, which decides what decays:

        >>> for group in param_groups(model, weight_decay=0.1, policy="guidelines", table=table):
        ...     print(group["weight_decay"], *group["param_names"][:4])
        0.1 0.norm.weight 0.up.weight 0.down.weight 1.norm.weight
        0.0 0.norm.bias 0.up.bias 0.down.bias 1.norm.bias
        >>> optimizer = torch.optim.AdamW(
        ...     param_groups(model, weight_decay=0.1, table=table), lr=1e-3)
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
        return with_marks(model, _agreed(by_table, by_graph))
    table = by_graph if by_table is None else by_table  # not `or`: a table without gains is falsy
    assert table is not None
    return with_marks(model, table)


def _agreed(by_table: GainTable, by_graph: GainTable) -> GainTable:
    table = {gain.name: gain for gain in by_table}
    graph = {gain.name: gain for gain in by_graph}
    for name in dict.fromkeys([*table, *graph]):
        one, two = table.get(name), graph.get(name)
        if two and two.category is None:
            continue  # these inputs do not reach it, which contradicts nothing
        if one is None or two is None or (one.category, one.offset) != (two.category, two.offset):
            raise GammaError(
                f"name table and graph disagree on {name!r}: {_brief(one)} against {_brief(two)}; "
                "take the graph, which sees what this model computes: "
                "categorize(model, inputs, method='graph')"
            )
    gains = tuple(replace(gain, source="table+graph") for gain in by_graph)
    return replace(by_graph, gains=gains)


def _brief(gain: Gain | None) -> str:
    return "no gain" if gain is None else f"{gain.category or 'unused'}, offset {gain.offset:g}"
