"""Make a gain table from the name table of a known architecture, without running the model."""

from __future__ import annotations

from typing import Any

from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.gains import name_tables
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.roles import norm_weights, static_roles
from gamma_nlp.gains.table import Gain, GainTable, dtype_name
from gamma_nlp.wrappers import library_model


def from_table(model: nn.Module, required: bool) -> GainTable | None:
    """Return the gain table by names, or ``None`` where no name table can be trusted.

    Raises:
        GammaError: It is ``required``, and there is none; says why.
    """
    inner = library_model(model)
    names = [name for name, _ in model.named_parameters()]
    placed = name_tables.place(inner, names)
    foreign_module = None
    if placed is not None:
        # A user's subclass may have moved the norm.
        foreign_module = name_tables.foreign(inner, _own_names(inner, placed[1], model))
    left = [] if placed is None else _unmatched(model, placed[1])
    if placed is None or foreign_module or left:
        if required:
            raise GammaError(_no_table(inner, foreign_module, left))
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
            dtype=dtype_name(parameters[name]),
            numel=parameters[name].numel(),
        )
        for name, row in rows.items()
        if row.category is not None
    )
    roles = static_roles(model, skip=[gain.name for gain in gains])
    for name, row in rows.items():
        bias = name.removesuffix("weight") + "bias"
        if row.category is None and bias in roles:
            roles[bias] = Role.BIAS  # it shifts no norm
    return GainTable(gains=gains, roles=roles, model=type(inner).__name__)


def _own_names(inner: nn.Module, rows: dict[str, Any], model: nn.Module) -> list[str]:
    """Return the gains' names inside the library's model, without wrappers."""
    names = {id(p): name for name, p in inner.named_parameters()}
    parameters = dict(model.named_parameters())
    return [names[id(parameters[name])] for name in rows if id(parameters[name]) in names]


def _unmatched(model: nn.Module, rows: dict[str, Any]) -> list[str]:
    return [name for name in norm_weights(model) if name not in rows]


def _no_table(inner: nn.Module, foreign_module: str | None, left: list[str]) -> str:
    kind = type(inner).__name__
    if foreign_module:
        why = f"the class of module {foreign_module!r} is not the library's own"
    elif left:
        why = f"the name table of {kind} does not know {left[0]!r}"
    else:
        why = f"no name table holds for {kind} with this configuration"
    return f"{why}; let the graph decide: categorize(model, method='graph')"
