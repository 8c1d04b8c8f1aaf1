"""What runs must have in common to be compared: a run that differs is named, with both values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from gamma_nlp.errors import shown
from gamma_nlp.study.results.run import Run, value_at
from gamma_nlp.study.results.study_file import Cell, Study
from gamma_nlp.study.statistics.sentence import count

_IN_STUDY = ("task", "precision", "planned_steps", "model", "data.*", "versions.*")
_IN_CELL = ("groups", "weight_decay", "policy.name", "policy.mode")

_PLANNED = {"planned_steps": "steps"}
"""What a plan calls it, where that is another name."""

_SET_BY = {
    "precision": {"precision", "bf16", "fp16"},
    "planned_steps": {"num_train_epochs", "max_steps"},
    "model": {"model", "model_config"},
    "data.train": {"data", "max_train_examples"},
}
"""The settings by which an arm may differ from the others on purpose."""


def strangers(study: Study, runs: Sequence[Run]) -> dict[int, str]:
    """Return why a run cannot be compared with the others, by its place in ``runs``.

    What was planned decides; where nothing was, what most runs have, and of two values that are
    as frequent the one that comes first.
    """
    found: dict[int, list[str]] = {}
    for place, run in enumerate(runs):
        found[place] = list(_own_faults(study, run))
    for key in _keys(runs):
        values = [value_at(run.results, key) for run in runs]
        for place, run in enumerate(runs):
            if values[place] is None:
                continue
            expected, by_plan = _expected(study, runs, values, run, key)
            if not _equal(values[place], expected):
                others = "as planned" if by_plan else "in the others"
                found[place].append(f"{key} is {_text(values[place])}, {_text(expected)} {others}")
    return {
        place: f"{runs[place].file}: " + _joined(faults)
        for place, faults in found.items()
        if faults
    }


def untold(runs: Sequence[Run]) -> list[str]:
    """Return notes on what could not be compared, since some runs do not tell it."""
    wanted = ("data", "versions", "groups")
    lines = []
    for key in wanted:
        without = [run for run in runs if run.results.get(key) is None]
        if without:
            who = "1 run does not tell" if len(without) == 1 else f"{len(without)} runs do not tell"
            who = "no run tells" if len(without) == len(runs) else who
            lines.append(f"{who} its {key}, so nothing says whether all runs had the same")
    return lines


def _own_faults(study: Study, run: Run) -> Iterator[str]:
    results, planned = run.results, run.planned
    if results["seed"] != planned.seed:
        yield f"seed is {results['seed']}, {planned.seed} as planned"
    steps, all_steps = results.get("steps"), results.get("planned_steps")
    if steps is not None and all_steps is not None and steps != all_steps:
        yield f"steps is {steps}, {all_steps} in its planned_steps: it stopped early"


def _keys(runs: Sequence[Run]) -> Iterator[str]:
    for key in (*_IN_CELL, *_IN_STUDY):
        if not key.endswith(".*"):
            yield key
            continue
        top = key.removesuffix(".*")
        names = {name: None for run in runs for name in run.results.get(top) or ()}
        yield from (f"{top}.{name}" for name in names)


def _expected(
    study: Study, runs: Sequence[Run], values: Sequence[object], run: Run, key: str
) -> tuple[object, bool]:
    """Return the value that a run should have, and whether the plan says so."""
    cell = study.cell(run.planned.cell)
    planned = _planned(study, cell, key)
    if planned is not None:
        return planned, True
    alone = key in _IN_CELL or (_set_by_arm(study, cell) & _SET_BY.get(key, set()))
    counts: dict[str, int] = {}
    of: dict[str, object] = {}
    for other, value in zip(runs, values, strict=True):
        theirs = study.cell(other.planned.cell)
        same = theirs.name == cell.name
        free = _set_by_arm(study, theirs) & _SET_BY.get(key, set())
        if value is not None and (same if alone else not free):
            counts[repr(value)] = counts.get(repr(value), 0) + 1
            of[repr(value)] = value
    most = max(counts, key=lambda text: counts[text])  # the first of several
    return of[most], False


def _planned(study: Study, cell: Cell, key: str) -> object:
    if key == "weight_decay":
        return cell.weight_decay
    if key == "model":  # a plan names its class
        return None
    if key.startswith("data.") and key != "data.train":  # scores of other data say nothing
        cell = next((one for one in study.cells if one.against is None), cell)
    return value_at(cell.plan, _PLANNED.get(key, key))


def _set_by_arm(study: Study, cell: Cell) -> set[str]:
    """Return the settings in which a cell differs from the first one on purpose."""
    first, own = study.cells[0].changes, cell.changes
    return {key for key in (*first, *own) if first.get(key) != own.get(key)}


def _equal(one: Any, other: Any) -> bool:
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return bool(one == other)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shown(value)


def _joined(faults: Sequence[str]) -> str:
    more = f"; and {count(len(faults) - 2, 'more key')}" if len(faults) > 2 else ""
    return "; ".join(faults[:2]) + more
