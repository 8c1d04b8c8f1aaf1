"""Draw the plots of the experiment on batch norm's penalty."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.tasks.run.plots import finish, pyplot
from recipes.batch_norm.grid import arms, units_of
from recipes.common.grid_runner import Done

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8456a8", "#666666", "#e69f00", "#56b4e9", "#cc79a7")


def plot_unit(done: Sequence[Done], path: Path, title: str) -> None:
    """Draw a unit's multiplier against its gain, and what noise leaves of least squares."""
    plt = pyplot()
    figure, (mu, data, alone) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained", dpi=110)
    _gains(mu, [cell for cells in arms(done, "clean").values() for cell in cells])
    for axis, where, name in (
        (data, "data", "Noise in loss and norm"),
        (alone, "statistics", "Noise in the norm's statistics only"),
    ):
        _directions(axis, done, where)
        axis.set(title=name, xlabel="variance of the eigen-direction, clean pixels")
        axis.legend(frameon=False, title="noise; lines: theory")
    data.set_ylabel("part of clean least squares that is left")
    finish(plt, figure, (mu, data, alone), title, path)


def _gains(axis: Any, cells: Sequence[Done]) -> None:
    fixed = next(c.result for c in cells if c.cell["gain"] is not None)
    free = fixed["gain"] * (1 + fixed["predicted_mu"])  # the gain of least squares, from the data
    low = min([c.result["gain"] for c in cells] + [free / 4])
    high = max([c.result["gain"] for c in cells] + [2 * free])
    span = [low * (high / low) ** (i / 100) for i in range(101)]
    axis.plot(span, [free / g for g in span], color="#444444", lw=1, label="theory")
    kinds = {
        "fixed": lambda c: c.cell["gain"] is not None,
        "decayed": lambda c: c.cell["gain"] is None and c.cell["decay"] > 0,
        "free": lambda c: c.cell["gain"] is None and not c.cell["decay"],
    }
    for (name, chosen), colour, mark in zip(kinds.items(), COLOURS, "os^", strict=False):
        own = [c.result for c in cells if chosen(c)]
        axis.plot(
            [r["gain"] for r in own],
            [1 + r["measured_mu"] for r in own],
            mark,
            color=colour,
            label=f"gain {name}",
            ms=7,
        )
    axis.axhline(1.0, color="#999999", lw=0.7, ls=":")
    axis.set(xscale="log", yscale="log", xlabel="gain", ylabel="1 + mu, measured")
    axis.xaxis.set_minor_formatter(pyplot().NullFormatter())  # would overlap within a decade
    axis.set_title("Multiplier of one unit, clean pixels")
    axis.legend(frameon=False)


def _directions(axis: Any, done: Sequence[Done], where: str) -> None:
    chosen = {key: cells for key, cells in arms(done, "noisy").items() if key[1] == where}
    for ((_, _, tau, _), cells), colour in zip(chosen.items(), COLOURS, strict=False):
        runs = [one.result["shrinkage"] for one in cells]
        places = [row["variance"] for row in runs[0]]
        parts = [[run[i]["measured"] for run in runs] for i in range(len(places))]
        middle = [statistics.fmean(values) for values in parts]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in parts]
        axis.errorbar(places, middle, spread, fmt="o", color=colour, ms=4, label=f"tau = {tau:g}")
        axis.plot(places, [row["predicted"] for row in runs[0]], color=colour, lw=1)
    axis.set(xscale="log", ylim=(-0.05, 0.65))


def plot_network(done: Sequence[Done], path: Path, title: str) -> None:
    """Draw multipliers over training, and those of every unit at the end against theory."""
    plt = pyplot()
    figure, (course, end) = plt.subplots(1, 2, figsize=(14, 5), layout="constrained", dpi=110)
    for ((name, _, _, decay), cells), colour in zip(
        arms(done, "network").items(), COLOURS, strict=False
    ):
        label = f"{name}, decay {decay:g}"
        runs = [one.result["history"] for one in cells]
        epochs = [entry["epoch"] for entry in runs[0]]
        low, middle, high = (
            [statistics.fmean(run[i]["mu"][which] for run in runs) for i in range(len(epochs))]
            for which in range(3)
        )
        style = "-" if decay else "--"
        # At the start mu is noise of both signs; without decay the medians say enough.
        course.plot(epochs[1:], middle[1:], style, color=colour, label=label)
        if decay:
            course.fill_between(epochs[1:], low[1:], high[1:], color=colour, alpha=0.12, lw=0)
        if decay:
            pairs = [pair for pair in units_of(cells) if min(pair) > 0]
            end.plot(*zip(*pairs, strict=True), ".", color=colour, ms=4, label=label)
    course.set(xlabel="epoch", ylabel="mu: median and quartiles over the units")
    course.set_yscale("symlog", linthresh=1e-4)
    course.axhline(0.0, color="#444444", lw=0.6)
    course.set_title("Multipliers over training")
    course.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    end.set(xscale="log", yscale="log", title="Every unit at the end, weights decayed")
    end.set(xlabel="decay |a|² / g², from the weights after it", ylabel="mu, measured")
    lows, highs = zip(end.get_xlim(), end.get_ylim(), strict=True)
    span = [max(lows), min(highs)]
    end.plot(span, span, color="#444444", lw=0.8, label="equal")
    end.legend(frameon=False, fontsize=9, markerscale=3)
    finish(plt, figure, (course, end), title, path)
