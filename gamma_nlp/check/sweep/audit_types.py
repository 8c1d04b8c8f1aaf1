"""What the stock Trainer's rule gets wrong over every text model type of transformers.

Each model class is built small from its config in a worker process and audited there. The rule
reads names and module types and no size, and the small model keeps every kind of layer: what it
shows holds for the large models of its type that have the same options in their config. Only the
number of layers, and with it the number of parameters, is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gamma_nlp import workers
from gamma_nlp.check.audit import Audit, Finding
from gamma_nlp.rows import Row, merge_layers

COLUMNS = ("parameters", "gains", "gains decayed", "others decayed", "weights spared", "1+w")
"""Heads of the columns of :func:`line`, behind the type."""


@dataclass(frozen=True, kw_only=True)
class ClassAudit:
    """The stock rule held against one model class.

    Attributes:
        type: The model type.
        model: The class.
        problem: Why there is no audit; empty where there is one.
        missing: The problem is a package that is not installed.
        parameters: Trainable parameters of the small model.
        gains: Gains among them, whatever the rule does with them.
        decayed_gains: Gains that the rule decays by accident.
        decayed_others: Shifts, biases and ``other`` parameters that it decays by accident.
        spared: Weights and embeddings that it spares by accident.
        unit_offset: Gains stored as ``offset + w``, see :class:`gamma_nlp.check.audit.Audit`.
    """

    type: str
    model: str
    problem: str = ""
    missing: bool = False
    parameters: int = 0
    gains: int = 0
    decayed_gains: tuple[Finding, ...] = ()
    decayed_others: tuple[Finding, ...] = ()
    spared: tuple[Finding, ...] = ()
    unit_offset: tuple[Finding, ...] = ()

    @property
    def accidents(self) -> int:
        """Parameters that the rule decays or spares by accident."""
        return len(self.decayed_gains) + len(self.decayed_others) + len(self.spared)


def audit_class(model_type: str, class_name: str) -> dict[str, Any]:
    """Audit one small model; plain data, which is what a worker can send."""
    from gamma_nlp.check.audit import audit
    from gamma_nlp.check.sweep import small_inputs, small_models
    from gamma_nlp.gains.placement import categorize

    model = small_models.build(model_type, class_name)
    table = categorize(model, small_inputs.inputs(model_type, model), method="graph")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    found: Audit = audit(model, table)
    return {**found.to_json(), "gains": sum(gain.name in trained for gain in table)}


def sweep(
    types: Iterable[str] | None = None,
    seconds: float = workers.SECONDS,
    jobs: int | None = None,
) -> Iterator[tuple[ClassAudit, ...]]:
    """Audit the classes of these types, by default of all: one tuple per type, in order.

    Args:
        types: Model types.
        seconds: How long one class may take.
        jobs: How many worker processes; :func:`gamma_nlp.workers.default_jobs` unless told.

    Raises:
        GammaError: A type that transformers does not list, or a number that makes no sense.
    """
    from gamma_nlp.check.sweep import small_models

    calls = small_models.text_classes(types)
    answers = workers.call_all(
        "gamma_nlp.check.sweep.audit_types:audit_class", calls, jobs=jobs, seconds=seconds
    )
    found = (_result(*call, answer) for call, answer in zip(calls, answers, strict=True))
    return (tuple(group) for _, group in itertools.groupby(found, lambda one: one.type))


def _result(model_type: str, class_name: str, answer: workers.Answer) -> ClassAudit:
    if answer.problem:
        return ClassAudit(
            type=model_type, model=class_name, problem=answer.problem, missing=answer.missing
        )
    data = answer.value
    decayed, spared, offset = (
        tuple(Finding(**finding) for finding in data[key])
        for key in ("decayed_by_accident", "spared_by_accident", "unit_offset")
    )
    return ClassAudit(
        type=model_type,
        model=class_name,
        parameters=data["decayed"] + data["spared"],
        gains=data["gains"],
        decayed_gains=tuple(f for f in decayed if f.what.startswith("gain")),
        decayed_others=tuple(f for f in decayed if not f.what.startswith("gain")),
        spared=spared,
        unit_offset=offset,
    )


def worst(classes: Sequence[ClassAudit]) -> ClassAudit | None:
    """The class with the most accidents stands for its type; ``None`` where none was audited.

    Of classes that tie, the one with the most gains that have an offset, then the first.
    """
    audited = [one for one in classes if not one.problem]
    return max(audited, key=lambda one: (one.accidents, len(one.unit_offset)), default=None)


def head(width: int) -> str:
    """The line above the types, whose names take ``width`` places."""
    return "  ".join(["type".ljust(width), *COLUMNS])


def line(classes: Sequence[ClassAudit], width: int) -> str:
    """One type: its numbers, what they stand for, and the classes that were not audited."""
    found = worst(classes)
    lines = []
    if found is not None:
        findings = (found.decayed_gains, found.decayed_others, found.spared, found.unit_offset)
        numbers = (found.parameters, found.gains, *map(len, findings))
        cells = [
            (str(number) if number else "-").rjust(len(name))
            for number, name in zip(numbers, COLUMNS, strict=True)
        ]
        lines.append("  ".join([found.type.ljust(width), *cells]))
        decayed = (*found.decayed_gains, *found.decayed_others)
        lines += [f"  decays {text}" for text in _merged(decayed)]
        lines += [f"  spares {text}" for text in _merged(found.spared)]
    failed = [one for one in classes if one.problem]
    lines += [f"{one.type} {one.model}: not audited: {one.problem}" for one in failed]
    return "\n".join(lines)


def _merged(findings: Sequence[Finding]) -> list[str]:
    rows = merge_layers([Row(name=f.name, key=(f.what, f.why)) for f in findings])
    return [
        f"{row.name}{f' x{row.count}' if row.count > 1 else ''} ({_short(*row.key)})"
        for row in rows
    ]


def _short(what: str, why: str) -> str:
    return f"{what}; {why}" if why.startswith("it") else what  # else: no word the rule knows


def summary(types: Sequence[Sequence[ClassAudit]]) -> str:
    """How many types the rule gets right, and how many have each kind of accident."""
    found = [one for one in map(worst, types) if one is not None]
    clean = sum(not one.accidents for one in found)
    total = sum(one.parameters for one in found)
    lines = [
        f"{clean} of {len(found)} types are clean: nothing decayed or spared by accident",
        _kind("gains decayed by accident", [one.decayed_gains for one in found]),
        _kind("shifts, biases and others decayed by accident", [o.decayed_others for o in found]),
        _kind("weights and embeddings spared by accident", [one.spared for one in found]),
        _kind("gains stored as 1 + w, pulled to 1 by decay of w", [o.unit_offset for o in found])
        + f"; the rule decays {sum(f.decayed for one in found for f in one.unit_offset)} of them",
        f"in all {total} trainable parameters, {sum(one.gains for one in found)} of them gains",
    ]
    failed = [one for classes in types for one in classes if one.problem]
    if failed:
        names = ", ".join(f"{one.type} {one.model}" for one in failed)
        lines.append(f"not audited: {names}")
    return "\n".join(f"# {text}" for text in lines)


def _kind(what: str, findings: Sequence[Sequence[Finding]]) -> str:
    return f"{what}: {sum(map(len, findings))}, in {sum(map(bool, findings))} types"
