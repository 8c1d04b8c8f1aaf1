"""Plots of scores: every seed, differences with intervals, dose against metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gamma_nlp.study.report.figures import (
    INK,
    Picture,
    drawing,
    legend,
    picture,
    short,
    styles,
)
from gamma_nlp.study.report.findings import Findings, Summary
from gamma_nlp.study.results.found import cell_label
from gamma_nlp.study.statistics.comparison import Comparison
from gamma_nlp.study.statistics.sentence import amount

_ROW = 0.36
_FRAME = 0.75


def every_seed(results: Findings) -> Picture | None:
    """Draw each run's score; a line joins the runs of one seed over the arms of one baseline."""
    families = [[one for one in family if one.runs] for family in _families(results)]
    families = [family for family in families if family]
    rows = sum(map(len, families))
    if not rows:
        return None
    style = styles(list(dict.fromkeys(one.cell.arm for one in results.summaries)))
    with drawing([_FRAME + _ROW * (rows + 0.4 * (len(families) - 1))]) as (figure, [axis]):
        place = 0.0
        for family in families:
            _join_seeds(axis, family, place)
            for one in family:
                colour = style[one.cell.arm][0]
                axis.plot(one.values, [place] * len(one.values), "o", color=colour, markersize=5.5,
                          alpha=0.85, linestyle="none")  # fmt: skip
                axis.plot([one.mean], [place], "|", color=INK, markersize=12, markeredgewidth=1.8)
                _row_label(axis, place, cell_label(results.study, one.cell))
                place += 1
            place += 0.4
        _rows_only(axis, -0.75, place - 0.9)
        axis.set_xlabel(_unit(results))
        return picture(
            figure, "seeds", "Every seed",
            "A dot is a run, a grey line joins the runs of one seed, a bar is the mean.",
        )  # fmt: skip


def differences(results: Findings) -> Picture | None:
    """Draw each arm's difference from its baseline with its intervals, and the margin."""
    known = [*results.comparisons, *results.floor]
    if not known:
        return None
    margin = results.metric.smallest_difference
    with drawing([_FRAME + _ROW * len(known)]) as (figure, [axis]):
        if margin is not None:
            axis.axvspan(-margin, margin, color="#009e73", alpha=0.16, linewidth=0)
        axis.axvline(0, color=INK, linewidth=0.9)
        for place, one in enumerate(known):
            _draw_difference(axis, results, one, place)
        _rows_only(axis, -0.75, len(known) - 0.5)
        axis.set_xlabel(f"difference from the baseline{_in_unit(results)}")
        text = "Thick: the 95 % interval; thin: t over seeds alone; small dots: the seeds."
        if not any(np.isfinite(one.low) for one in known):
            text = "No interval can be told of so few seeds; small dots: the seeds."
        if margin is not None:
            least = amount(f"{margin:g}", results.metric.unit)
            text += f" Shaded: less than {least}, the smallest difference that matters."
        return picture(figure, "differences", "Differences from the baseline", text)


def dose_against_metric(results: Findings) -> Picture | None:
    """Draw the score over the doses, where there are several."""
    doses = sorted({one.cell.dose for one in results.summaries if one.cell.dose is not None})
    arms = list(dict.fromkeys(one.cell.arm for one in results.summaries if not one.cell.aa))
    if len(doses) < 2:
        return None
    style = styles(arms)
    with drawing([2.7], names=arms) as (figure, [axis]):
        lines = []
        for number, arm in enumerate(arms):
            mine = [
                one
                for one in results.summaries
                if one.cell.arm == arm
                and one.runs
                and one.cell.dose is not None
                and not one.cell.aa
            ]
            mine.sort(key=lambda one: one.cell.dose or 0.0)
            shift = 0.5 * ((number + 0.5) / len(arms) - 0.5)
            x = [doses.index(one.cell.dose or 0.0) + shift for one in mine]
            colour, dash = style[arm]
            lines += axis.plot(x, [one.mean for one in mine], color=colour, linestyle=dash,
                               linewidth=1.6)  # fmt: skip
            for at, one in zip(x, mine, strict=True):
                axis.plot([at] * len(one.values), one.values, "o", color=colour, markersize=4,
                          alpha=0.8)  # fmt: skip
        axis.set_xticks(range(len(doses)), [f"{100 * dose:.3g} %" for dose in doses])
        axis.set_xlim(-0.5, len(doses) - 0.5)
        axis.set(xlabel="dose: the share of a weight that decay alone takes", ylabel=_unit(results))
        legend(figure, arms, lines)
        return picture(
            figure, "doses", "Dose against metric", "A dot is a run, the lines join the means."
        )


def _families(results: Findings) -> list[list[Summary]]:
    """Return the cells with one baseline together, the baseline first."""
    found: dict[str, list[Summary]] = {}
    for one in results.summaries:
        found.setdefault(results.study.base(one.cell) or one.cell.name, []).append(one)
    return list(found.values())


def _join_seeds(axis: Any, family: Sequence[Summary], first: float) -> None:
    for seed in {seed for one in family for seed in one.runs}:
        points = [
            (one.runs[seed].value, first + place)
            for place, one in enumerate(family)
            if seed in one.runs
        ]
        axis.plot(*zip(*points, strict=True), color=INK, alpha=0.28, linewidth=0.8)


def _draw_difference(axis: Any, results: Findings, one: Comparison, place: int) -> None:
    arm, base = results.found.of(one.arm), results.found.of(one.baseline)
    each = [arm[seed].value - base[seed].value for seed in arm if seed in base]
    colour = {"better": "#0072b2", "worse": "#d55e00", "no_difference": "#009e73"}.get(
        one.verdict.value, "#888888"
    )
    if np.isfinite([one.t_low, one.t_high]).all():
        axis.plot([one.t_low, one.t_high], [place + 0.17] * 2, color=colour, linewidth=1.1)
    if np.isfinite([one.low, one.high]).all():
        axis.plot([one.low, one.high], [place] * 2, color=colour, linewidth=3.4)
    axis.plot(each, [place + 0.17] * len(each), "o", color=INK, markersize=2.6, alpha=0.55)
    axis.plot([one.difference], [place], "o", color=colour, markersize=7)
    name = cell_label(results.study, results.study.cell(one.arm))
    words = "A/A" if one in results.floor else one.verdict.value.replace("_", " ")
    _row_label(axis, place, f"{short(name, 30)}: {words}")


def _row_label(axis: Any, place: float, text: str) -> None:
    axis.text(0.0, place - 0.2, short(text), transform=axis.get_yaxis_transform(), va="bottom",
              ha="left", fontsize=9)  # fmt: skip


def _rows_only(axis: Any, top: float, bottom: float) -> None:
    axis.set_ylim(bottom, top)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.margins(x=0.08)


def _unit(results: Findings) -> str:
    return f"{results.metric.name}{_in_unit(results)}"


def _in_unit(results: Findings) -> str:
    return f" ({results.metric.unit})" if results.metric.unit else ""
