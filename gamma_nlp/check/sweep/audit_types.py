"""Compare the stock Trainer's rule with what the parameters of every model type are.

Each model class is built small from its config in a worker process and audited there. The rule
reads names and module types, never sizes, and the small model keeps every kind of layer: the result
holds for the large models of its type that set the same options in their config. Only the number of
layers, and with it the number of parameters, is smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp import workers
from gamma_nlp.check.audit.compare import audit
from gamma_nlp.check.audit.report import Accident
from gamma_nlp.check.sweep import run, small_inputs, small_models
from gamma_nlp.gains.placement import categorize
from gamma_nlp.rows import Row, merge_layers

COLUMNS = (
    "parameters",
    "gains",
    "gains decayed",
    "others decayed",
    "weights spared",
    "as authors",
    "as guidelines",
    "1+w",
)
"""Headers of the columns of :func:`line`, after the type."""


@dataclass(frozen=True, kw_only=True)
class ClassAudit(run.ClassResult):
    """The stock rule compared with one model class.

    Attributes:
        parameters: Trainable parameters of the small model.
        gains: Gains among them, whatever the rule does with them.
        decayed_gains: Gains on a skip or head, and gates, which the rule decays by accident.
        decayed_others: Shifts, biases and ``other`` parameters that it decays by accident.
        spared: Weights and embeddings that it spares by accident.
        as_authors: Batch norms on a skip or head, and constants, that it decays as some authors do.
        in_branch: Gains in a branch that it decays, as the policy ``guidelines`` does.
        unit_offset: Gains stored as ``offset + w``, see :class:`gamma_nlp.check.audit.Audit`.
    """

    parameters: int = 0
    gains: int = 0
    decayed_gains: tuple[Accident, ...] = ()
    decayed_others: tuple[Accident, ...] = ()
    spared: tuple[Accident, ...] = ()
    as_authors: tuple[Accident, ...] = ()
    in_branch: tuple[Accident, ...] = ()
    unit_offset: tuple[Accident, ...] = ()

    @property
    def accidents(self) -> int:
        """Parameters that the rule decays or spares by accident."""
        return len(self.decayed_gains) + len(self.decayed_others) + len(self.spared)


def audit_class(model_type: str, class_name: str) -> dict[str, Any]:
    """Audit one small model; the result is plain data that a worker can send."""
    model = small_models.build(model_type, class_name)
    table = categorize(model, small_inputs.inputs(model_type, model), method="graph")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    return {**audit(model, table).to_json(), "gains": sum(gain.name in trained for gain in table)}


def sweep(
    types: Iterable[str] | None = None,
    seconds: float = workers.SECONDS,
    jobs: int | None = None,
    *,
    kind: str = "all",
    resume: Path | None = None,
) -> Iterator[tuple[ClassAudit, ...]]:
    """Audit the classes of these types, by default of all: one tuple per type, in order.

    Arguments and errors are those of :func:`gamma_nlp.check.sweep.run.sweep`.
    """
    found = run.sweep(
        ClassAudit, audit_class, _fields, types, seconds, jobs, kind=kind, resume=resume
    )
    return (tuple(group) for _, group in itertools.groupby(found, lambda one: one.type))


def _fields(answer: workers.Answer) -> dict[str, Any]:
    data = answer.value
    if data is None:
        return {}
    decayed, as_authors, in_branch, spared, offset = (
        tuple(Accident(**accident) for accident in data[key])
        for key in (
            "decayed_by_accident",
            "decayed_as_by_some_authors",
            "decayed_as_under_guidelines",
            "spared_by_accident",
            "unit_offset",
        )
    )
    return {
        "parameters": data["decayed"] + data["spared"],
        "gains": data["gains"],
        "decayed_gains": tuple(one for one in decayed if one.is_gain),
        "decayed_others": tuple(one for one in decayed if not one.is_gain),
        "spared": spared,
        "as_authors": as_authors,
        "in_branch": in_branch,
        "unit_offset": offset,
    }


def worst(classes: Sequence[ClassAudit]) -> ClassAudit | None:
    """Return the class that represents its type: the one with the most accidents.

    Among classes that tie it is the one with the most gains that have an offset, then the first;
    ``None`` if no class could be audited.
    """
    audited = [one for one in classes if not one.problem]
    return max(audited, key=lambda one: (one.accidents, len(one.unit_offset)), default=None)


def head(width: int) -> str:
    """Return the header of the table, whose first column is ``width`` characters wide."""
    return "  ".join(["type".ljust(width), *COLUMNS])


def line(classes: Sequence[ClassAudit], width: int) -> str:
    """Return the text for one type: its numbers, its accidents, and classes not audited."""
    found = worst(classes)
    lines = []
    if found is not None:
        accidents = (
            found.decayed_gains,
            found.decayed_others,
            found.spared,
            found.as_authors,
            found.in_branch,
            found.unit_offset,
        )
        numbers = (found.parameters, found.gains, *map(len, accidents))
        cells = [
            (str(number) if number else "-").rjust(len(name))
            for number, name in zip(numbers, COLUMNS, strict=True)
        ]
        lines.append("  ".join([found.type.ljust(width), *cells]))
        decayed = (*found.decayed_gains, *found.decayed_others)
        lines += [f"  decays {name} ({what})" for name, what, _ in _merged(decayed)]
        by_others = _merged(found.as_authors)
        lines += [f"  decays, as some authors do, {name} ({what})" for name, what, _ in by_others]
        as_meant = _merged(found.in_branch)
        lines += [f"  decays, as under guidelines, {name} ({what})" for name, what, _ in as_meant]
        lines += [f"  spares {name} ({what}; {why})" for name, what, why in _merged(found.spared)]
    failed = [one for one in classes if one.problem]
    lines += [f"{one.type} {one.model}: not audited: {one.problem}" for one in failed]
    return "\n".join(lines)


def _merged(accidents: Sequence[Accident]) -> list[tuple[str, str, str]]:
    """Return name, what and why, with one entry for layers that agree in what and why."""
    rows = merge_layers([Row(name=a.name, key=(a.what, a.why)) for a in accidents])
    return [(_times(row.name, row.count), row.key[0], row.key[1]) for row in rows]


def _times(name: str, count: int) -> str:
    return f"{name} x{count}" if count > 1 else name


def summary(types: Sequence[Sequence[ClassAudit]]) -> str:
    """Count the types that the rule gets right, and those with each kind of accident."""
    found = [one for one in map(worst, types) if one is not None]
    clean = sum(not one.accidents for one in found)
    total = sum(one.parameters for one in found)
    pulled = sum(gain.decayed for one in found for gain in one.unit_offset)
    lines = [
        f"{clean} of {len(found)} types are clean: nothing decayed or spared by accident",
        *(_kind(what, [getattr(one, field) for one in found]) for field, what in _KINDS.items()),
        _kind("gains stored as 1 + w, pulled to 1 by decay of w", [o.unit_offset for o in found])
        + f"; the rule decays {pulled} of them",
        f"in all {total} trainable parameters, {sum(one.gains for one in found)} of them gains",
    ]
    failed = [one for classes in types for one in classes if one.problem]
    if failed:
        names = ", ".join(f"{one.type} {one.model}" for one in failed)
        count = "1 class" if len(failed) == 1 else f"{len(failed)} classes"
        lines.append(f"{count} not audited, so nothing is known of them: {names}")
    cut = [f"{one.type} {one.model}" for one in failed if one.cut]
    if cut:
        lines.append(f"cut off, so the audit is not complete: {len(cut)} ({', '.join(cut)})")
    return "\n".join(f"# {text}" for text in lines)


_KINDS = {
    "decayed_gains": "gains on a skip or head and gates decayed by accident",
    "decayed_others": "shifts, biases and constants decayed by accident",
    "spared": "weights and embeddings spared by accident",
    "as_authors": "batch norms and constants that decay, as some authors do",
    "in_branch": "gains in a branch that decay, as under guidelines",
}


def _kind(what: str, by_type: Sequence[Sequence[Accident]]) -> str:
    return f"{what}: {sum(map(len, by_type))}, in {sum(map(bool, by_type))} types"
