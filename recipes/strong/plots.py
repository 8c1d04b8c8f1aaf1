"""Draw error and compression against l1 for each rule, and the coherence over a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.tasks.run.plots import pyplot
from recipes.common.grid_runner import Done
from recipes.strong.report import CHANCE, RULES, Row, Verdict

_COLOURS = {
    "always": "#d55e00",
    "delayed": "#8456a8",
    "direction": "#0072b2",
    "magnitude": "#009e73",
}
_MARKS = {"always": "o", "delayed": "^", "direction": "s", "magnitude": "D"}

_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
"""The background of text that lines may cross."""


def plot_grid(
    done: Sequence[Done],
    table: Sequence[Row],
    verdict: Verdict,
    path: Path,
    *,
    title: str,
    note: str,
    mark: float | None = None,
) -> None:
    """Draw one dataset's grid.

    Args:
        done: The grid's cells.
        table: Their rows.
        verdict: The verdict on them.
        path: The PNG to write.
        title: The title.
        note: The caption: data, seeds, epochs.
        mark: A compression at which to draw a line.
    """
    plt = pyplot()
    figure, (score, size, time) = plt.subplots(
        1, 3, figsize=(15, 4.6), layout="constrained", dpi=110
    )
    for rule in RULES:
        rows = [row for row in table if row.rule == rule]
        style: Any = {"color": _COLOURS[rule], "marker": _MARKS[rule], "markersize": 5}
        l1 = [row.l1 for row in rows]
        score.plot(l1, [_error(row.accuracy) for row in rows], label=rule, **style)
        for one in done:
            if one.cell["rule"] == rule:
                error = _error(one.result["accuracy"])
                score.plot(one.cell["l1"], error, ".", color=_COLOURS[rule], alpha=0.4)
        learned = [row for row in rows if row.accuracy > 2 * CHANCE]
        size.plot([r.l1 for r in learned], [r.compression for r in learned], label=rule, **style)
    low = min(_error(row.accuracy) for row in table)
    dense = _error(verdict.dense)
    for error, label in ((dense, f"dense {100 - verdict.dense:.1f}"), (100 - CHANCE, "chance")):
        score.axhline(error, color="#444444", linewidth=1, linestyle="--")
        score.annotate(
            label, (0.99, error), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", fontsize=9, ha="right", bbox=_PAPER,
        )  # fmt: skip
    score.set(title="Error", xlabel="l1", ylabel="test error (%)", xscale="log", yscale="log")
    marks = [one for one in (0.5, 1, 2, 3, 5, 10, 20, 30, 40, 60, 90) if one >= 0.7 * low]
    score.set_yticks(marks, [f"{one:g}" for one in marks])
    score.set_ylim(0.8 * low, 110)
    size.set(title="Compression where it learns", xlabel="l1", xscale="log", yscale="log")
    size.set_ylabel("parameters / nonzeros")
    size.set_xlim(score.get_xlim())
    highest = max([row.compression for row in table if row.accuracy > 2 * CHANCE] + [mark or 1.0])
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= 1.5 * highest]
    size.set_yticks(ticks, [str(tick) for tick in ticks])
    size.set_ylim(0.9, 1.7 * highest)
    size.legend(frameon=False, loc="lower right")
    values = sorted({row.l1 for row in table if row.rule != "none"})
    for axis in (score, size):
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()
    if mark is not None:
        size.axhline(mark, color="#444444", linewidth=1, linestyle="--")
        size.annotate(
            f"{mark:g} (Park et al., other networks)", (0.02, mark), xytext=(0, 3), fontsize=9,
            xycoords=("axes fraction", "data"), textcoords="offset points", bbox=_PAPER,
        )  # fmt: skip
    _coherence(time, done, verdict)
    for axis in (score, size):
        if verdict.fails is not None:
            _shade(axis, verdict.tolerance, verdict.fails)
    for axis in (score, size, time):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(note, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _error(accuracy: float) -> float:
    """Return the error in percent, never 0, which a logarithmic axis lacks."""
    return max(100 - accuracy, 0.1)


def _shade(axis: Any, tolerance: float | None, fails: float) -> None:
    low, high = axis.get_xlim()
    start = (fails * (tolerance or fails)) ** 0.5  # half-way, on a logarithmic axis
    axis.axvspan(start, high, color="#d55e00", alpha=0.08, linewidth=0)
    axis.annotate(
        "'always' fails", (start, 0.88), xycoords=("data", "axes fraction"), xytext=(5, 0),
        textcoords="offset points", fontsize=9, color="#b04a00",
    )  # fmt: skip
    axis.set_xlim(low, high)


def _coherence(axis: Any, done: Sequence[Done], verdict: Verdict) -> None:
    """Draw the first seed's runs at the smallest l1 at which ``always`` fails."""
    shown = [row.cell["l1"] for row in done if row.cell["rule"] == "always"]
    l1 = verdict.fails if verdict.fails is not None else max(shown)
    seed = min(one.cell["seed"] for one in done)
    for one in done:
        if one.cell["seed"] != seed or one.cell["l1"] != l1 or one.cell["rule"] not in RULES:
            continue
        steps = [point[0] for point in one.result["history"]]
        values = [point[2] for point in one.result["history"]]
        axis.plot(steps, values, color=_COLOURS[one.cell["rule"]], label=one.cell["rule"])
    axis.set(title=f"Coherence at l1 = {l1:g}, seed {seed}", xlabel="step", ylabel="cos(g, g + r)")
    axis.set_ylim(-1.05, 1.05)
    axis.axhline(0, color="#444444", linewidth=0.6)
    axis.legend(frameon=False, fontsize=9)
