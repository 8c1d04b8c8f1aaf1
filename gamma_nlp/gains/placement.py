"""From a model to its gain table: two independent sources, and their agreement."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains import name_tables, rule
from gamma_nlp.gains import roles as find
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.graph import messages
from gamma_nlp.graph.inputs import unwrap
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.graph.trace import trace

Method = Literal["auto", "table", "graph"]


def categorize(model: nn.Module, example_inputs: Any = None, method: Method = "auto") -> GainTable:
    """Place every gain of a model in one of the four categories.

    Args:
        model: Any module; wrapped by DDP, ``torch.compile`` or PEFT, frozen, quantised or on the
            meta device. It is left exactly as it was.
        example_inputs: What the forward pass is called with to trace the residual graph: a
            tensor, a tuple of positional or a dict of keyword arguments. Models of transformers
            need none.
        method: ``"table"`` matches names and runs nothing; ``"graph"`` runs one forward pass;
            ``"auto"`` takes the table where there is one and else the graph. With
            ``example_inputs``, ``"auto"`` takes both and insists that they agree.

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
        by_table = _from_table(model, required=method == "table")
    if method == "graph" or by_table is None or (method == "auto" and example_inputs is not None):
        by_graph = _from_graph(model, trace(model, example_inputs))
    if by_table is not None and by_graph is not None:
        return _agreed(by_table, by_graph)
    table = by_graph if by_table is None else by_table  # one without gains is false
    assert table is not None
    return table


def _from_table(model: nn.Module, required: bool) -> GainTable | None:
    inner = name_tables.core(unwrap(model))
    names = [name for name, _ in model.named_parameters()]
    placed = name_tables.place(inner, names)
    stranger = None
    if placed is not None:
        # Classes between the root and a gain must be the library's own: a subclass may have
        # moved the norm.
        stranger = name_tables.foreign(inner, _own_names(inner, placed[1], model))
    left = [] if placed is None else _unmatched(model, placed[1])
    if placed is None or stranger or left:
        if required:
            raise GammaError(_no_table(inner, placed is None, stranger, left))
        return None
    layout, rows = placed
    parameters = dict(model.named_parameters())
    gains = tuple(
        Gain(
            name=name,
            category=row.category,
            kind=row.kind,
            offset=row.offset,
            source="table",
            reason=f"[{layout}] {row.pattern}",
            dtype=_dtype(parameters[name]),
            numel=parameters[name].numel(),
        )
        for name, row in rows.items()
        if row.category is not None
    )
    roles = find.static_roles(model, skip=[gain.name for gain in gains])
    for name, row in rows.items():
        twin = name.removesuffix("weight") + "bias"
        if row.category is None and twin in roles:
            roles[twin] = Role.BIAS  # it shifts no norm
    return GainTable(
        gains=gains,
        roles=roles,
        model=type(inner).__name__,
    )


def _own_names(inner: nn.Module, rows: dict[str, Any], model: nn.Module) -> list[str]:
    """The gains' names as the unwrapped model spells them."""
    names = {id(p): name for name, p in inner.named_parameters()}
    parameters = dict(model.named_parameters())
    return [names[id(parameters[name])] for name in rows if id(parameters[name]) in names]


def _unmatched(model: nn.Module, rows: dict[str, Any]) -> list[str]:
    own = dict(model.named_parameters())  # shared parameters under their first name only
    return [name for name in find.norm_weights(model) if name in own and name not in rows]


def _no_table(inner: nn.Module, none: bool, stranger: str | None, left: list[str]) -> str:
    kind = type(inner).__name__
    if none:
        why = f"no table holds for {kind} with this configuration"
    elif stranger:
        why = f"the class of module {stranger!r} is not the library's own"
    else:
        why = f"the table of {kind} does not know {left[0]!r}"
    return f"{why}; let the graph decide: categorize(model, method='graph')"


def _from_graph(model: nn.Module, graph: Graph) -> GainTable:
    places: dict[str, list[rule.Use]] = {}
    for place in rule.uses(graph):
        places.setdefault(place.parameter, []).append(place)
    first = {id(p): name for name, p in model.named_parameters()}
    aliases = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    by_name = {aliases[name]: rule.merge(found) for name, found in places.items()}
    counts = {aliases[name]: len(found) for name, found in places.items()}
    touched = {aliases[name] for name in graph.touched if name in aliases}
    candidates = {aliases[name] for name in find.norm_weights(model)}
    owners = dict(model.named_modules(remove_duplicate=False))
    gains = []
    for name, parameter in model.named_parameters():
        use: rule.Use | None = by_name.get(name)
        if use is None and name not in candidates:
            continue
        if use is None and name in touched and _only_scales(graph, name.rpartition(".")[0]):
            continue  # called a norm, but normalises nothing, such as MobileBERT's NoNorm
        if use is None and name in touched:
            raise GammaError(messages.unplaced(model, name, _row(model, name)))
        gains.append(
            Gain(
                name=name,
                category=use.category if use else None,
                kind=use.kind if use else find.kind(owners[name.rpartition(".")[0]]),
                offset=use.offset if use else 0.0,
                source="graph",
                reason=_reason(graph, use, counts.get(name, 0)),
                dtype=_dtype(parameter),
                numel=parameter.numel(),
            )
        )
    trainable = dict(model.named_parameters())
    unused = [g.name for g in gains if g.category is None and trainable[g.name].requires_grad]
    if unused:
        warnings.warn(messages.unreached(unused), stacklevel=3)
    roles = find.static_roles(model, skip=[gain.name for gain in gains])
    added = {aliases[name] for name in graph.biases if name in aliases}
    for name in touched & roles.keys():
        if roles[name] is Role.WEIGHT:  # a matrix by its shape, until it is seen in a contraction
            roles[name] = Role.EMBEDDING if name in added else Role.OTHER
    for role, names in (
        (Role.BIAS, graph.biases),
        (Role.SHIFT, graph.shifts),
        (Role.WEIGHT, graph.weights),
        (Role.EMBEDDING, graph.embeddings),
    ):
        for name in names:
            own = aliases.get(name)
            if own not in roles or (role, roles[own]) == (Role.BIAS, Role.EMBEDDING):
                continue  # a table of positions, added whole
            if roles[own] is Role.BIAS and _stays_bias(role, own, added, roles):
                continue
            roles[own] = role
    return GainTable(gains=tuple(gains), roles=roles, model=type(unwrap(model)).__name__)


def _stays_bias(role: Role, name: str, added: set[str], roles: Mapping[str, Role]) -> bool:
    """Whether a bias is one although the graph contracts it or looks it up."""
    if role is Role.WEIGHT:  # q = Wp + b of a parameter p is contracted whole
        return name in added
    # Experts look up their bias along with their weight: `proj`, `proj_bias`.
    return role is Role.EMBEDDING and roles.get(name.removesuffix("_bias")) is Role.WEIGHT


def _row(model: nn.Module, name: str) -> str | None:
    """What a row for this gain would be called, where tables are read for the model at all."""
    if name_tables.model_type(name_tables.core(unwrap(model))) is None:
        return None
    return re.sub(r"\.\d+(?=\.)", ".{i}", name_tables.plain_name(name)).removesuffix(".weight")


def _only_scales(graph: Graph, module: str) -> bool:
    """Whether all that a module does is to multiply and add."""
    ops = [n.op for n in graph.nodes if n.module == module or n.module.startswith(f"{module}.")]
    return bool(ops) and all(op is Op.LINEAR for op in ops)


def _reason(graph: Graph, use: rule.Use | None, count: int) -> str:
    if use is None:
        return "the forward pass never reaches it"
    several = f" (decides among {count} uses)" if count > 1 else ""
    if use.addition is None:
        after = (
            "renormalised, no residual addition"
            if use.category is Category.BRANCH_INNER
            else ("no residual addition after it")
        )
        return after + several
    place = graph.nodes[use.addition].module or "the model"
    how = {
        Category.SHORTCUT: "is on the skip of",
        Category.BRANCH_LAST: "ends the branch of",
        Category.BRANCH_INNER: "feeds, through a weight, the branch of",
    }[use.category]
    return f"{how} the addition in {place}{several}"


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


def _dtype(parameter: Any) -> str:
    return str(parameter.dtype).removeprefix("torch.")
