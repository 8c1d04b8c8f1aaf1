"""Make a gain table from the residual graph of one forward pass."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains import messages, name_tables, rule
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.graph_roles import graph_roles
from gamma_nlp.gains.normalized import normalized_weights
from gamma_nlp.gains.roles import kind, norm_weights, owners
from gamma_nlp.gains.rule import factors_before_norms
from gamma_nlp.gains.table import Gain, GainTable, dtype_name
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.wrappers import library_model, library_names, unwrap

_IDLE = "its norm normalises a constant, so that it scales nothing"


def from_graph(model: nn.Module, graph: Graph) -> GainTable:
    """Return the gain table that the rule gives for a graph of ``model``.

    Raises:
        GammaError: A norm's weight is used, but not as a gain.
    """
    # A shared parameter goes by its first name.
    first = {id(p): name for name, p in model.named_parameters()}
    named = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    gains = tuple(_gains(model, graph, named))
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    idle = {named[name] for name in graph.idle}
    unused = [
        gain.name
        for gain in gains
        if gain.category is None and gain.name in trainable and gain.name not in idle
    ]
    if unused:
        warnings.warn(messages.unreached(unused), stacklevel=4)
    roles, reasons = graph_roles(model, graph, named, [gain.name for gain in gains])
    followed = {named[name] for name in normalized_weights(graph) if name in named}
    return GainTable(
        gains=gains,
        roles=roles,
        reasons=reasons,
        model=type(unwrap(model)).__name__,
        normalized=frozenset(name for name in followed if roles.get(name) is Role.WEIGHT),
    )


def _gains(model: nn.Module, graph: Graph, named: Mapping[str, str]) -> Iterator[Gain]:
    uses: dict[str, list[rule.Use]] = {}
    for place in rule.uses(graph):
        uses.setdefault(named[place.parameter], []).append(place)
    touched = {named[name] for name in graph.touched if name in named}
    idle = {named[name] for name in graph.idle}
    candidates = {named[name] for name in norm_weights(model)}
    owner: dict[str, nn.Module] = {}
    for name, module, _, _ in owners(model):
        owner.setdefault(name, module)
    paths = {id(module): path for path, module in unwrap(model).named_modules()}
    complete = {id(owner[name]) for name in uses if name in owner}
    before = {named[name] for name in factors_before_norms(graph) if name in named}
    known = {*graph.weights, *graph.embeddings, *graph.biases, *graph.shifts}
    known = {named[name] for name in known if name in named}
    no_gains = []
    for name, parameter in model.named_parameters():
        found = uses.get(name)
        if found is None and name in before:
            no_gains.append(name)
            continue
        if found is None and name not in candidates:
            continue
        if found is None and name in touched:
            ran = _operations(graph, paths[id(owner[name])])
            if ran and ran <= {Op.LINEAR}:
                continue  # a norm by name that normalises nothing, such as MobileBERT's NoNorm
            if name in known:
                continue
            if id(owner[name]) not in complete and not [*owner[name].children()]:
                raise GammaError(messages.unplaced(model, name, _row(model, name)))
            no_gains.append(name)
            continue
        use = rule.merge(found) if found else None
        yield Gain(
            name=name,
            category=use.category if use else None,
            kind=use.kind if use else kind(owner[name]),
            offset=use.offset if use else 0.0,
            source="graph",
            reason=_IDLE if name in idle and not use else _reason(graph, use, len(found or ())),
            dtype=dtype_name(parameter),
            numel=parameter.numel(),
        )
    if no_gains:
        warnings.warn(messages.no_gains(no_gains, before), stacklevel=5)


def _row(model: nn.Module, name: str) -> str | None:
    """Return what a table row for this gain would begin with, if tables are read for the model."""
    if name_tables.model_type(library_model(model)) is None:
        return None
    plain = library_names(other for other, _ in model.named_parameters())[name]
    return re.sub(r"\.\d+(?=\.)", ".{i}", plain).removesuffix(".weight")


def _operations(graph: Graph, module: str) -> set[Op]:
    """Return what a module does to the signal."""
    inside = f"{module}." if module else ""
    return {n.op for n in graph.nodes if n.module == module or n.module.startswith(inside)}


def _reason(graph: Graph, use: rule.Use | None, count: int) -> str:
    if use is None:
        return "the forward pass never reaches it"
    several = f" (decides among {count} uses)" if count > 1 else ""
    if use.addition is None:
        inner = use.category is Category.BRANCH_INNER
        after = "renormalised, no residual addition" if inner else "no residual addition after it"
        return after + several
    place = graph.nodes[use.addition].module or "the model"
    how = {
        Category.SHORTCUT: "is on the skip of",
        Category.BRANCH_LAST: "ends the branch of",
        Category.BRANCH_INNER: "feeds, through a weight, the branch of",
    }[use.category]
    return f"{how} the addition in {place}{several}"
