"""What the runs were: gains and doses, settings that differ and that agree, versions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gamma_nlp.errors import shown
from gamma_nlp.gains.category import Category
from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.table import Table

_MOST = 160


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of all runs: those that tell arms apart, and those that all share."""

    differing: Table
    common: Table


def gain_table(results: Findings) -> Table:
    """Return gains, coefficient, dose and size per cell and category, over its runs."""
    lines = []
    for one in results.summaries:
        runs = list(one.runs.values())
        planned = one.cell.plan.get("dose")
        for category in (each.value for each in Category):
            doses = [_at(run.run.results, "dose", category) for run in runs]
            dose = next((each for each in doses if each), None) or _inside(planned, category)
            sizes = [_at(run.run.results, "gain_norm", category) for run in runs]
            if dose is None and not any(sizes):
                continue
            dose = dose or {}
            lines.append(
                (
                    one.cell.name,
                    category,
                    _short(dose.get("gains")),
                    _short(dose.get("coefficient")),
                    _share(dose.get("dose")),
                    _range([size["first"] for size in sizes if size and "first" in size]),
                    _range([size["last"] for size in sizes if size and "last" in size]),
                )
            )
    return Table(
        title="Gains",
        head=("arm", "category", "gains", "coefficient", "dose", "rms first", "rms last"),
        lines=tuple(lines),
        left=frozenset({"arm", "category"}),
        notes=(
            "dose: the share of a gain that decay alone takes over the run",
            "rms: root mean square of the gains; several numbers are the lowest and highest seed",
        ),
    )


def settings(results: Findings) -> Settings:
    """Return the settings of the runs; those that differ between seeds are left out."""
    by_cell = {
        one.cell.name: [_flat(run.run.results.get("settings")) for run in one.runs.values()]
        for one in results.summaries
        if one.runs
    }
    every = [one for runs in by_cell.values() for one in runs]
    keys = sorted({key for one in every for key in one})
    cells: dict[str, tuple[str, ...]] = {}
    common: dict[str, str] = {}
    for key in keys:
        values = [[_plain(one.get(key)) for one in runs] for runs in by_cell.values()]
        if any(len(set(of_cell)) > 1 for of_cell in values):
            continue
        firsts = tuple(of_cell[0] for of_cell in values)
        if len(set(firsts)) > 1:
            cells[key] = firsts
        else:
            common[key] = firsts[0]
    return Settings(
        differing=Table(
            title="Settings that differ",
            head=("setting", *by_cell),
            lines=tuple((key, *values) for key, values in cells.items()),
            left=frozenset({"setting", *by_cell}),
        ),
        common=Table(
            title="Settings that all runs share",
            head=("setting", "value"),
            lines=tuple(common.items()),
            left=frozenset({"setting", "value"}),
        ),
    )


def shared(results: Findings, key: str, title: str) -> Table:
    """Return an object of the results, such as versions, with all values that there are."""
    found: dict[str, dict[str, None]] = {}
    for run in results.found.runs:
        for name, value in _flat(run.run.results.get(key)).items():
            found.setdefault(name, {})[_plain(value)] = None
    lines = tuple((name, ", ".join(values)) for name, values in sorted(found.items()))
    return Table(title=title, head=("", "value"), lines=lines, left=frozenset({"", "value"}))


def times(results: Findings) -> Table:
    """Return how long the runs of each cell took, in seconds."""
    lines = []
    for one in results.summaries:
        walls = [run.run.results.get("wall_seconds") for run in one.runs.values()]
        known = [wall for wall in walls if isinstance(wall, (int, float))]
        if known:
            lines.append((one.cell.name, f"{sum(known) / len(known):.0f}", f"{sum(known):.0f}"))
    return Table(title="Time", head=("arm", "seconds a run", "seconds in all"), lines=tuple(lines))


def commands(results: Findings) -> list[str]:
    """Return what to type: the study, this report, and the first run of each cell."""
    study = results.study
    first = {run.cell: run for run in reversed(study.planned) if run.command}
    lines = [shlex.join(["gamma-nlp", "study", study.config_file])] if study.config_file else []
    return [*lines, *(shlex.join(run.command) for run in reversed(first.values()))]


def _at(results: Mapping[str, Any], key: str, category: str) -> Mapping[str, Any] | None:
    return _inside(results.get(key), category)


def _inside(value: object, category: str) -> Mapping[str, Any] | None:
    found = value.get(category) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    """Return nested objects by dotted keys; ``training_arguments.`` is no part of a key."""
    found: dict[str, object] = {}
    if isinstance(values, Mapping):
        for key, value in values.items():
            name = prefix if key == "training_arguments" else f"{prefix}{key}"
            if isinstance(value, Mapping) and value:
                found |= _flat(value, f"{name}." if name and name != prefix else prefix)
            else:
                found[name] = value
    return found


def _short(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(map(_short, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-"
    return f"{value:.4g}"


def _share(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(map(_share, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-"
    return f"{100 * value:.3g} %"


def _range(values: Sequence[object]) -> str:
    known = sorted(float(value) for value in values if isinstance(value, (int, float)))
    if not known:
        return "-"
    texts = list(dict.fromkeys(f"{value:.4f}" for value in (known[0], known[-1])))
    return " to ".join(texts)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str):
        return shown(value)
    return value if len(value) <= _MOST else f"{value[:_MOST]}..."
