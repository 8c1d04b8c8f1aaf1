"""A gain table from the residual graph of one forward pass."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains import name_tables, rule
from gamma_nlp.gains import roles as find
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable, dtype_name
from gamma_nlp.graph import messages
from gamma_nlp.graph.nodes import Graph, Op
from gamma_nlp.wrappers import library_model, library_names, unwrap


def from_graph(model: nn.Module, graph: Graph) -> GainTable:
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
                dtype=dtype_name(parameter),
                numel=parameter.numel(),
            )
        )
    trainable = dict(model.named_parameters())
    unused = [g.name for g in gains if g.category is None and trainable[g.name].requires_grad]
    if unused:
        warnings.warn(messages.unreached(unused), stacklevel=4)
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
    if name_tables.model_type(library_model(model)) is None:
        return None
    plain = library_names(other for other, _ in model.named_parameters())[name]
    return re.sub(r"\.\d+(?=\.)", ".{i}", plain).removesuffix(".weight")


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
