"""Read a grid of runs under strong L1: tolerance level, rescue, compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from recipes.common.grid_runner import Done

RULES = ("always", "delayed", "direction", "magnitude")
CHANCE = 10.0
"""Accuracy in percent, for ten classes."""
FAILED = 15.0
"""A mean accuracy up to this counts as chance."""
ACTED = 0.01
"""A row counts only if its rule acted in at least this share of the decisions."""
LOST = 1.0
"""Points of accuracy that a compressed network may lose."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rule and one l1, over the seeds.

    Attributes:
        rule: The rule, or ``none``.
        l1: Coefficient of L1.
        accuracy: Mean test accuracy in percent.
        worst: The lowest accuracy of a seed.
        compression: All parameters over those that are not 0; mean over seeds.
        least: The lowest compression of a seed.
        acted: Share of the steps with regularisation.
        coherence: Mean of cos(g, g + r) over steps and seeds; ``nan`` without a penalty.
        seeds: Number of seeds.
    """

    rule: str
    l1: float
    accuracy: float
    worst: float
    compression: float
    least: float
    acted: float
    coherence: float
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The summary of one grid.

    Attributes:
        dense: Accuracy without regularisation.
        tolerance: The largest l1 of the grid up to which ``always`` learns; ``None`` if it never
            fails.
        fails: The smallest l1 at which ``always`` is at chance.
        rescue: Where ``always`` is at chance, the row that compresses most of those that lose at
            most a point.
        free: The row, at any l1, that compresses most and loses nothing.
        best_always: The row of ``always`` that compresses most and loses at most a point.
    """

    dense: float
    tolerance: float | None
    fails: float | None
    rescue: Row | None
    free: Row | None
    best_always: Row | None


def rows(done: Sequence[Done]) -> list[Row]:
    """Return one row for each rule and l1, ``none`` first, then in the order of :data:`RULES`."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for one in done:
        groups.setdefault((one.cell["rule"], float(one.cell["l1"])), []).append(one.result)
    found = []
    for (rule, l1), results in groups.items():
        accuracies = [result["accuracy"] for result in results]
        compressions = [result["compression"] for result in results]
        found.append(
            Row(
                rule=rule,
                l1=l1,
                accuracy=fmean(accuracies),
                worst=min(accuracies),
                compression=fmean(compressions),
                least=min(compressions),
                acted=fmean(result.get("acted", 0.0) for result in results),
                coherence=fmean(result.get("coherence", float("nan")) for result in results),
                seeds=len(results),
            )
        )
    order = ("none", *RULES)
    return sorted(found, key=lambda row: (order.index(row.rule), row.l1))


def judge(table: Sequence[Row]) -> Verdict:
    """Find the tolerance level and the rows that matter."""
    dense = next(row.accuracy for row in table if row.rule == "none")
    failed = [row.l1 for row in table if row.rule == "always" and row.accuracy <= FAILED]
    fails = min(failed, default=None)
    learned = [
        row.l1 for row in table if row.rule == "always" and (fails is None or row.l1 < fails)
    ]
    # A rule that never let the penalty act has rescued nothing.
    penalised = [row for row in table if row.rule != "none" and row.acted >= ACTED]
    return Verdict(
        dense=dense,
        tolerance=max(learned, default=None) if failed else None,
        fails=fails,
        rescue=_most([r for r in penalised if r.l1 in failed and r.accuracy >= dense - LOST]),
        free=_most([r for r in penalised if r.accuracy >= dense]),
        best_always=_most(
            [r for r in penalised if r.rule == "always" and r.accuracy >= dense - LOST]
        ),
    )


def _most(found: Sequence[Row]) -> Row | None:
    return max(found, key=lambda row: row.compression, default=None)


def lines(name: str, table: Sequence[Row], verdict: Verdict) -> list[str]:
    """Return the table and the verdict as text."""
    text = [
        f"{name}",
        f"{'rule':<10} {'l1':>8}  {'accuracy':>8}  {'worst':>6}  {'compression':>11}  {'acted':>6}"
        "  cos(g, g+r)",
    ]
    for row in table:
        text.append(
            f"{row.rule:<10} {row.l1:>8g}  {row.accuracy:>8.2f}  {row.worst:>6.2f}  "
            f"{row.compression:>11.2f}  {row.acted:>6.1%}  {row.coherence:>11.3f}"
        )
    if verdict.fails is None:
        text.append("'always' never fell to chance on this grid")
    else:
        text.append(
            f"'always' is at chance from l1 = {verdict.fails:g}, and learns up to "
            f"{'none of the grid' if verdict.tolerance is None else f'{verdict.tolerance:g}'}"
        )
        text.append(
            f"rescue there, at most {LOST:g} point below dense: {_row_text(verdict.rescue)}"
        )
    text.append(
        f"most compressed, not below dense ({verdict.dense:.2f}): {_row_text(verdict.free)}"
    )
    text.append(f"'always' at its best, at most a point below: {_row_text(verdict.best_always)}")
    return text


def _row_text(row: Row | None) -> str:
    if row is None:
        return "none"
    return (
        f"{row.rule} at l1 = {row.l1:g}, accuracy {row.accuracy:.2f}, compression "
        f"{row.compression:.1f}"
    )


def as_json(table: Sequence[Row], verdict: Verdict) -> dict[str, Any]:
    """Return the table and the verdict for results.json."""
    return {"rows": [asdict(row) for row in table], "verdict": asdict(verdict)}
