"""What the parameters of a model are, and how a rule's treatment of them is judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gamma_nlp.check.audit.report import Accident, Part
from gamma_nlp.check.judge import Heading, Judge, Rule
from gamma_nlp.decay.assign import all_names_in
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import PLACES, Gain, GainTable


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of a model, by the names that it has now: wrapped, perhaps.

    Attributes:
        title: The model's class.
        named: The parameters, tied ones once.
        owners: The module that owns each.
        what: The gain or role that each is; a frozen one may have none.
        reasons: Why some have their role.
    """

    title: str
    named: Mapping[str, nn.Parameter]
    owners: Mapping[str, nn.Module]
    what: Mapping[str, Gain | Role]
    reasons: Mapping[str, str]

    @property
    def trained(self) -> list[str]:
        """The names of those that are not frozen."""
        return [name for name, p in self.named.items() if p.requires_grad]

    def word(self, name: str) -> str:
        """Return what a parameter is, in words."""
        entry = self.what.get(name)
        if entry is None:
            return "unknown"
        if isinstance(entry, Role):
            return entry.value
        return f"gain, {entry.category or 'unused'}"


def parameters_of(model: nn.Module, table: GainTable) -> Parameters:
    """Return what a gain table says of a model's parameters.

    Raises:
        GammaError: A trainable parameter is not in the table.
    """
    named = dict(model.named_parameters())
    listed = all_names_in(table, model)
    entries: dict[str, Gain | Role] = {**{gain.name: gain for gain in table}, **table.roles}
    modules = dict(model.named_modules(remove_duplicate=False))
    return Parameters(
        title=table.model or type(model).__name__,
        named=named,
        owners={name: modules[name.rpartition(".")[0]] for name in named},
        what={name: entries[own] for name, own in listed.items()},
        reasons={name: table.reasons[own] for name, own in listed.items() if own in table.reasons},
    )


def judged(known: Parameters, rule: Rule, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return what an audit says of a rule, as the arguments of :class:`~.report.Audit`.

    Args:
        known: The model's parameters.
        rule: What is done with them.
        names: The trained ones that it decides about; by default all.
    """
    names = known.trained if names is None else names
    judge = Judge(rule, {name: known.what[name] for name in names}, known.reasons)
    found: dict[Heading, list[Accident]] = {heading: [] for heading in Heading}
    offset: list[Accident] = []
    for name in names:
        decayed = name in rule.decayed
        verdict = judge(name, known.owners[name])
        if verdict is not None:
            heading, why = verdict
            found[heading].append(accident(known, name, decayed, why))
        entry = known.what[name]
        if isinstance(entry, Gain) and entry.offset:
            does = "the rule decays it" if decayed else "the rule spares it"
            why = f"pulled to {entry.offset:g}, not 0; {does}"
            offset.append(accident(known, name, decayed, why))
    decays = sum(name in rule.decayed for name in names)
    return {
        "decayed": decays,
        "spared": len(names) - decays,
        "decayed_by_accident": tuple(found[Heading.ACCIDENT]),
        "decayed_as_by_some_authors": tuple(found[Heading.SOME_AUTHORS]),
        "decayed_as_under_guidelines": tuple(found[Heading.GUIDELINES]),
        "spared_by_accident": tuple(found[Heading.SPARED]),
        "spared_as_by_some_authors": tuple(found[Heading.SPARED_BY_SOME]),
        "unit_offset": tuple(offset),
        "parts": tuple(
            Part(what=what, trained=len(own), decayed=sum(n in rule.decayed for n in own))
            for what, own in by_part(known, names).items()
        ),
    }


def accident(known: Parameters, name: str, decayed: bool, why: str) -> Accident:
    """Return the entry of an audit for one parameter."""
    return Accident(name=name, what=known.word(name), decayed=decayed, why=why)


def by_part(known: Parameters, names: Collection[str]) -> dict[str, list[str]]:
    """Return names by category and role, in the order of gain tables."""
    order = [*(f"gain, {place}" for place in PLACES), *(role.value for role in Role)]
    parts: dict[str, list[str]] = {what: [] for what in order}
    for name in names:
        parts.setdefault(known.word(name), []).append(name)
    return {what: own for what, own in parts.items() if own}
