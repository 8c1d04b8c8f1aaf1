"""A report as data: a row a run, a row a comparison, and everything as JSON."""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.text import verdict_lines
from gamma_nlp.study.statistics.comparison import Comparison

_WORDS = ("verdict", "sentence")


def runs_csv(results: Findings) -> str:
    """Return a row for each run that counts: its place, the metric, its scores as they are."""
    metric = results.metric
    head = ["cell", "arm", "dose", "weight_decay", "aa", "seed", "metric", "unit", *metric.scores]
    rows = []
    for one in results.summaries:
        cell = one.cell
        for seed, run in one.runs.items():
            place = [cell.name, cell.arm, cell.dose, cell.weight_decay, int(cell.aa), seed]
            rows.append([*place, run.value, metric.unit, *(run.scores[p] for p in metric.scores)])
    return _csv(head, rows)


def comparisons_csv(results: Findings) -> str:
    """Return a row for each comparison, those of the noise floor last, with every number."""
    names = [field.name for field in dataclasses.fields(Comparison)]
    numbers = [name for name in names if name not in _WORDS]
    head = ["kind", *numbers, "unit", *_WORDS]
    rows = [
        [kind, *(getattr(one, name) for name in numbers), results.metric.unit,
         one.verdict.value, one.sentence]
        for kind, some in (("arm", results.comparisons), ("a_a", results.floor))
        for one in some
    ]  # fmt: skip
    return _csv(head, rows)


def as_json(results: Findings) -> str:
    """Return everything that a report says."""
    study, found = results.study, results.found
    content = {
        "name": study.name,
        "about": study.about,
        "metric": results.metric,
        "baseline": study.baseline,
        "planned_runs": len(study.planned),
        "arms": [
            {
                "cell": one.cell.name,
                "arm": one.cell.arm,
                "dose": one.cell.dose,
                "against": one.cell.against,
                "a_a": one.cell.aa,
                "mean": one.mean,
                "deviation": one.deviation,
                "seeds": {str(seed): run.value for seed, run in one.runs.items()},
            }
            for one in results.summaries
        ],
        "same": {cell.name: cell.same_as for cell in study.cells if cell.same_as},
        "comparisons": results.comparisons,
        "noise_floor": results.noise,
        "a_a": results.floor,
        "trends": results.trends,
        "designs": results.designs,
        "verdicts": verdict_lines(results),
        "left_out": found.left_out,
        "unfinished": found.unfinished,
        "notes": found.notes,
    }
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n")
    out.writerow(head)
    out.writerows([["" if _plain(cell) is None else _plain(cell) for cell in row] for row in rows])
    return written.getvalue()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what is no number is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
