"""Plots over training: loss, the metric, and the size of the gains in each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gamma_nlp.gains.category import Category
from gamma_nlp.study.design.metric import kind_of, spelt
from gamma_nlp.study.report.figures import INK, Picture, drawing, legend, picture, styles
from gamma_nlp.study.report.findings import Findings, Summary
from gamma_nlp.study.report.table import capital
from gamma_nlp.study.results.found import Counted

_MOST_POINTS = 120
_MOST_BANDS = 6
_DOSES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1, 1, 1)))

Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values."""


def learning_curves(results: Findings) -> tuple[Picture | None, Picture | None]:
    """Draw the training loss and the metric over the steps, a panel for each dose."""
    loss = _over_steps(results, "loss", "Training loss", "loss (nats)", _loss)
    name = _evaluated(results)
    _, unit, scale = kind_of(name) or (True, "", 1.0)

    def scores(run: Counted) -> Curve | None:
        found = _history(run, name)
        return None if found is None else (found[0], scale * found[1])

    plain = spelt(name.rpartition(".")[2].removeprefix("eval_"))
    label = f"{plain} ({unit})" if unit and unit != plain else plain
    title = f"{capital(plain)} over training"
    over = _over_steps(results, "metric", title, label, scores)
    return loss, over


def _evaluated(results: Findings) -> str:
    """Return the score to draw: the metric where training told it, else the recipe's own."""
    names = [path.removeprefix("final.") for path in results.metric.scores]
    if len(names) == 1 and any(_history(run, names[0]) for run in results.found.runs):
        return names[0]
    own = (run.run.results.get("score") for run in results.found.runs)
    return next((name for name in own if isinstance(name, str)), names[0])


def gains_over_training(results: Findings) -> Picture | None:
    """Draw the change of each category's root mean square, a line for each cell."""
    curves = {
        one.cell.name: {
            category: curve
            for category in _categories(one)
            if (curve := _mean([_norms(run, category) for run in one.runs.values()])) is not None
        }
        for one in results.summaries
        if not one.cell.aa
    }
    known = [c.value for c in Category if any(c.value in found for found in curves.values())]
    if not known:
        return None
    arms = list(dict.fromkeys(one.cell.arm for one in results.summaries))
    doses = sorted({one.cell.dose for one in results.summaries if one.cell.dose is not None})
    style = styles(arms)
    names = [one.cell.name for one in results.summaries if curves.get(one.cell.name)]
    with drawing([1.4] * len(known), names=names, share=True) as (figure, axes):
        handles: dict[str, Any] = {}
        for axis, category in zip(axes, known, strict=True):
            for one in results.summaries:
                curve = curves.get(one.cell.name, {}).get(category)
                if curve is None:
                    continue
                colour, dash = style[one.cell.arm]
                if len(doses) > 1 and one.cell.dose is not None:
                    dash = _DOSES[doses.index(one.cell.dose) % len(_DOSES)]
                width = 1.4 + 0.7 * max(0, 3 - arms.index(one.cell.arm))  # equal lines stay seen
                (line,) = axis.plot(*_change(curve), color=colour, linestyle=dash, linewidth=width)
                handles.setdefault(one.cell.name, line)
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, -1.0), max(high, 1.0))  # noise must not look like movement
            axis.axhline(0.0, color=INK, linewidth=0.6)
            axis.set_title(category)
            axis.set_ylabel("change (%)")
        axes[-1].set_xlabel("step")
        legend(figure, list(handles), list(handles.values()))
        return picture(
            figure, "gains", "Gains per category",
            "Change of the root mean square from the start, mean over the seeds.",
        )  # fmt: skip


def _over_steps(results: Findings, name: str, title: str, label: str, curve: Any) -> Picture | None:
    panels: dict[float | None, list[tuple[Summary, list[Curve]]]] = {}
    for one in results.summaries:
        known = [found for run in one.runs.values() if (found := curve(run)) is not None]
        if known and not one.cell.aa:
            panels.setdefault(one.cell.dose, []).append((one, known))
    if not panels:
        return None
    style = styles(list(dict.fromkeys(one.cell.arm for one in results.summaries)))
    heights = [2.4] if len(panels) == 1 else [1.7] * len(panels)
    arms = list(dict.fromkeys(one.cell.arm for cells in panels.values() for one, _ in cells))
    with drawing(heights, names=arms, share=True) as (figure, axes):
        handles: dict[str, Any] = {}
        for axis, (dose, cells) in zip(axes, panels.items(), strict=True):
            for one, known in cells:
                colour, dash = style[one.cell.arm]
                line = _draw(axis, known, colour, dash, band=len(cells) <= _MOST_BANDS)
                handles.setdefault(one.cell.arm, line)
            if dose is not None and len(panels) > 1:
                axis.set_title(f"dose {100 * dose:.3g} %")
            axis.set_ylabel(label)
        axes[-1].set_xlabel("step")
        legend(figure, list(handles), list(handles.values()))
        return picture(figure, name, title, _words(list(panels.values())))


def _words(panels: Sequence[Sequence[tuple[Summary, list[Curve]]]]) -> str:
    if all(len(known) == 1 for cells in panels for _, known in cells):
        return "One seed."
    if all(len(cells) > _MOST_BANDS for cells in panels):
        return "Mean over the seeds."
    return "Mean over the seeds; the band is from the lowest to the highest."


def _draw(axis: Any, curves: Sequence[Curve], colour: str, dash: Any, *, band: bool) -> Any:
    steps, values = _together(curves)
    marker = "o" if len(steps) < 12 else ""
    (line,) = axis.plot(steps, values.mean(axis=0), color=colour, linestyle=dash, linewidth=1.6,
                        marker=marker, markersize=3.5)  # fmt: skip
    if band and len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)
    return line


def _together(curves: Sequence[Curve]) -> Curve:
    """Return the steps of the longest curve that all reach, and each curve's values at them."""
    last = min(float(steps[-1]) for steps, _ in curves)
    steps = max((steps for steps, _ in curves), key=len)
    steps = steps[steps <= last]
    return steps, np.stack([np.interp(steps, *curve) for curve in curves])


def _mean(curves: Sequence[Curve | None]) -> Curve | None:
    known = [curve for curve in curves if curve is not None]
    if not known:
        return None
    steps, values = _together(known)
    return steps, values.mean(axis=0)


def _change(curve: Curve) -> Curve:
    steps, values = curve
    return steps, 100 * (values / values[0] - 1) if values[0] else np.zeros_like(values)


def _categories(one: Summary) -> list[str]:
    known: set[str] = set()
    for run in one.runs.values():
        for place in (run.run.results.get("gain_norm"), _curves(run).get("gain_norm")):
            known |= set(place) if isinstance(place, Mapping) else set()
    return [category.value for category in Category if category.value in known]


def _curves(run: Counted) -> Mapping[str, Any]:
    found = run.run.results.get("curves")
    return found if isinstance(found, Mapping) else {}


def _loss(run: Counted) -> Curve | None:
    return _points(_curves(run).get("loss"))


def _norms(run: Counted, category: str) -> Curve | None:
    """Return the logged sizes; of a run without a curve the first and the last."""
    curves = _curves(run).get("gain_norm")
    if isinstance(curves, Mapping) and (found := _points(curves.get(category))) is not None:
        return found
    ends = run.run.results.get("gain_norm")
    ends = ends.get(category) if isinstance(ends, Mapping) else None
    steps = run.run.results.get("steps")
    if not isinstance(ends, Mapping) or not isinstance(steps, int):
        return None
    return _points([[0, ends.get("first")], [steps, ends.get("last")]])


def _history(run: Counted, name: str) -> Curve | None:
    history = run.run.results.get("history")
    if not isinstance(history, list):
        return None
    entries = [entry for entry in history if isinstance(entry, Mapping)]
    return _points([[one.get("step"), one.get(name)] for one in entries if name in one])


def _points(pairs: Any) -> Curve | None:
    """Return the points of a curve as the file has it, thinned; None where they are no curve."""
    try:
        array = np.asarray(pairs, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 2 or not np.isfinite(array).all():
        return None
    array = array[np.argsort(array[:, 0], kind="stable")]
    if len(array) > _MOST_POINTS:
        array = array[np.linspace(0, len(array) - 1, _MOST_POINTS).round().astype(int)]
    return array[:, 0], array[:, 1]
