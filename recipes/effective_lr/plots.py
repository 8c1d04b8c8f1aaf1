"""Draw heat maps of the test error over (lr, decay), and norms against their predicted values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gamma_nlp.tasks.run.plots import pyplot
from recipes.common.grid_runner import Done
from recipes.effective_lr.equilibrium import SETTLED
from recipes.effective_lr.grid import Sweep, mean_errors, of_sweep

TITLES = {"sgd": "SGD", "adam": "Adam, coupled L2", "adamw": "AdamW"}
NETWORKS = {"conv": "4-layer ConvNet", "transformer": "Transformer with q/k norm"}
_TURNS = {"sgd": (1.0, "lr·decay"), "adam": (2.0, "lr²·decay"), "adamw": (1.0, "lr·decay")}


def plot_heat_maps(done: Sequence[Done], sweep: Sweep, path: Path, note: str) -> None:
    """Draw the test error without and with UnitNorm, with lines of equal effective rate.

    Args:
        done: Cells; those of other sweeps are ignored.
        sweep: The one to draw.
        path: The PNG to write.
        note: The caption: data, seeds, hardware.
    """
    plt = pyplot()
    maps = [mean_errors(done, sweep, unit_norm) for unit_norm in (False, True)]
    every = [error for errors in maps for error in errors.values()]
    low, high = min(every), max(every)
    x, y = _edges(sweep.decays), _edges(sweep.lrs)
    wide = 1.3 + 0.72 * len(sweep.decays)
    tall = 2.0 + 0.62 * len(sweep.lrs)
    figure, axes = plt.subplots(
        1, 2, figsize=(2 * wide + 1.2, tall), layout="constrained", dpi=110, sharey=True
    )
    for axis, errors, how in zip(axes, maps, ("plain", "with UnitNorm"), strict=True):
        rows = [[errors[lr, decay] for decay in sweep.decays] for lr in sweep.lrs]
        mesh = axis.pcolormesh(x, y, rows, vmin=low, vmax=high, cmap="viridis_r")
        for (lr, decay), error in errors.items():
            dark = error > (low + high) / 2
            axis.text(
                math.log10(decay), math.log10(lr), f"{error:.1f}", ha="center", va="center",
                fontsize=9, color="white" if dark else "black",
            )  # fmt: skip
        axis.set(title=how, xlabel="weight decay", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        axis.set_xticks([math.log10(d) for d in sweep.decays], [f"{d:.2g}" for d in sweep.decays])
        axis.set_yticks([math.log10(lr) for lr in sweep.lrs], [f"{lr:.2g}" for lr in sweep.lrs])
        if len(sweep.decays) > 5:
            axis.tick_params(axis="x", rotation=40)
    axes[0].set_ylabel("learning rate")
    power, product = _TURNS[sweep.optimizer]
    _diagonals(axes[0], sweep, power)
    _settled_line(axes[0], done, sweep, power)
    for lr in sweep.lrs[:-1]:
        axes[1].axhline(
            math.log10(lr) + _step(sweep.lrs) / 2, color="white", linewidth=1.2, linestyle="--"
        )
    figure.colorbar(mesh, ax=axes, label="test error (%)")
    figure.suptitle(f"{NETWORKS[sweep.network]}, {TITLES[sweep.optimizer]}: test error (%)")
    figure.supxlabel(
        f"dashed: equal effective rate by theory (plain: {product} constant, once norms have "
        f"settled; UnitNorm: lr alone).\nRight of the red line the run is long enough for norms to "
        f"settle.\n{note}",
        fontsize=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def plot_norms(done: Sequence[Done], sweeps: Sequence[Sweep], path: Path, note: str) -> None:
    """Draw norms of plain runs against the equilibrium predicted from (lr, decay).

    Args:
        done: Cells.
        sweeps: Sweeps, one panel each.
        path: The PNG to write.
        note: The caption.
    """
    plt = pyplot()
    figure, axes = plt.subplots(
        1, len(sweeps), figsize=(4.2 * len(sweeps), 4.4), layout="constrained", dpi=110,
        squeeze=False,
    )  # fmt: skip
    for axis, sweep in zip(axes[0], sweeps, strict=True):
        weights = [
            w
            for one in of_sweep(done, sweep)
            if not one.cell["unit_norm"]
            for w in one.result["weights"]
            if math.isfinite(w["equilibrium_norm"])
        ]
        for settled, colour, label in (
            (False, "#bbbbbb", f"fewer than {SETTLED:g} turnovers"),
            (True, "#0072b2", "settled"),
        ):
            mine = [w for w in weights if (w["turnovers"] >= SETTLED) is settled]
            axis.plot(
                [w["equilibrium_norm"] for w in mine], [w["norm"] for w in mine],
                "o", markersize=3.5, alpha=0.7, color=colour, label=label,
            )  # fmt: skip
        axis.set(
            xscale="log", yscale="log", xlabel="|w| predicted at equilibrium",
            title=f"{NETWORKS[sweep.network]}\n{TITLES[sweep.optimizer]}",
        )  # fmt: skip
        ends = axis.get_xlim()
        axis.plot(ends, ends, color="#444444", linewidth=0.8, zorder=0)
        axis.set_xlim(ends)
        axis.xaxis.set_minor_formatter(plt.NullFormatter())  # would overlap within a decade
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("|w| measured, last quarter")
    axes[0][0].legend(frameon=False)
    figure.suptitle("Norms of scale-invariant weights")
    figure.supxlabel(note, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _step(values: Sequence[float]) -> float:
    return math.log10(values[1] / values[0])


def _edges(values: Sequence[float]) -> list[float]:
    half = _step(values) / 2
    return [math.log10(v) - half for v in values] + [math.log10(values[-1]) + half]


def _diagonals(axis: Any, sweep: Sweep, power: float) -> None:
    """Draw lines lr**power * decay = constant, a decade apart, beside the numbers in the cells."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    first, last = math.ceil(power * low + left), math.floor(power * high + right)
    for exponent in (whole + 0.25 * power for whole in range(first - 1, last + 1)):
        axis.plot(
            [left, right], [(exponent - left) / power, (exponent - right) / power],
            color="white", linewidth=1.2, linestyle="--",
        )  # fmt: skip


def _settled_line(axis: Any, done: Sequence[Done], sweep: Sweep, power: float) -> None:
    """Draw where a run lasts SETTLED turnovers; they grow as the square of the settled rate."""
    slope = 2 / 3 if sweep.optimizer == "adam" else 1.0
    offsets = [
        math.log10(w["turnovers"])
        - slope * (power * math.log10(one.cell["lr"]) + math.log10(one.cell["decay"]))
        for one in of_sweep(done, sweep)
        if not one.cell["unit_norm"]
        for w in one.result["weights"]
        if w["turnovers"] > 0
    ]
    if not offsets:
        return
    level = (math.log10(SETTLED) - fmean(offsets)) / slope
    ends = axis.get_xlim()
    axis.plot(ends, [(level - x) / power for x in ends], color="#d62728", linewidth=2)
