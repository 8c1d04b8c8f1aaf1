"""The plot of one run: loss, score and gain norms over the steps."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.decay.announce import GAIN_NORM
from gamma_nlp.draw.colours import COLOURS
from gamma_nlp.errors import need
from gamma_nlp.files.write import write_bytes
from gamma_nlp.gains.category import Category

Log = Sequence[Mapping[str, Any]]


def series(log: Log, key: str) -> tuple[list[float], list[float]]:
    """Return steps and values of one logged quantity."""
    pairs = [(entry["step"], entry[key]) for entry in log if key in entry and "step" in entry]
    return [float(step) for step, _ in pairs], [float(value) for _, value in pairs]


def plot_run(
    log: Log, path: str | os.PathLike[str], *, title: str, score: str, smoothing: float = 0.0
) -> None:
    """Draw one run: training and evaluation loss, score, size of the gains per category.

    Args:
        log: The Trainer's ``log_history``.
        path: The PNG to write.
        title: Heading of the plot.
        score: Key of the score, such as ``eval_accuracy``.
        smoothing: Label smoothing of the training loss; the evaluation loss has none.
    """
    plt = pyplot()
    figure, (loss, mark, norm) = plt.subplots(
        1, 3, figsize=(13.5, 4.2), layout="constrained", dpi=110
    )
    # With several evaluation sets every key carries the name of its set.
    evaluated = next(
        (key for entry in log for key in entry if key.startswith("eval") and key.endswith("loss")),
        "eval_loss",
    )
    trained = f"training (smoothing {smoothing:g})" if smoothing else "training"
    for key, name, style in (("loss", trained, "-"), (evaluated, "evaluation", "o-")):
        steps, values = series(log, key)
        if values:
            colour = "#888888" if key == "loss" else "#0072b2"
            shape = "o" if len(values) == 1 else style  # a line of one point is not seen
            loss.plot(steps, values, shape, color=colour, label=name)
            loss.legend(frameon=False)
    loss.margins(y=0.15)
    loss.set(title="Loss", xlabel="step", ylabel="loss (nats)", ylim=(0, None))
    _score(mark, log, score, "#0072b2")
    for category in Category:
        steps, values = series(log, GAIN_NORM + category.value)
        if values:
            label = f"{category.value} (at first {values[0]:.3g})"
            norm.plot(steps, _change(values), color=COLOURS[category], label=label)
            # On a ground of its own: the line at 0 would cross the words.
            norm.legend(edgecolor="none", framealpha=1)
    _norm(norm, "Gains per category")
    finish(plt, figure, (loss, mark, norm), title, path)


def _score(axis: Any, log: Log, key: str, colour: str) -> None:
    steps, values = series(log, key)
    name = key.removeprefix("eval_").replace("_", " ")
    unit, title = f"{name} (%)", name
    if key.endswith("bleu"):  # from 0 to 100 already, not a share
        unit = title = "BLEU"
    else:
        values = [100 * value for value in values]
    axis.plot(steps, values, "o-", color=colour, alpha=0.85)
    for point in zip(steps, values, strict=True):
        axis.annotate(
            f"{point[1]:.1f}", point, xytext=(0, 7), textcoords="offset points", ha="center"
        )
    if len(values) == 1:  # one point has no scale of its own
        axis.set(xlim=(0, 1.2 * steps[0]), ylim=(values[0] - 5, values[0] + 5))
    axis.margins(x=0.1, y=0.2)
    axis.set(title=f"Evaluation {title}", xlabel="step", ylabel=unit)


def _change(values: Sequence[float]) -> list[float]:
    return [100 * (value / values[0] - 1) if values[0] else 0.0 for value in values]


def _norm(axis: Any, title: str) -> None:
    axis.set(title=title, xlabel="step", ylabel="change of the root mean square (%)")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -1.0), max(high, 1.0))  # so that noise does not look like movement
    axis.axhline(0.0, color="#444444", linewidth=0.6)


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``, set up to need no screen.

    Raises:
        GammaError: matplotlib is missing.
    """
    need("matplotlib", "plot", "plots need").use("Agg")
    import matplotlib.pyplot as plt

    return plt


def finish(plt: Any, figure: Any, axes: Any, title: str, path: str | os.PathLike[str]) -> None:
    """Give ``figure`` a title and its ``axes`` a grid, write it as a PNG file, and close it."""
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=12)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()  # so that a full disk leaves no half of a file
    figure.savefig(picture, format="png")
    plt.close(figure)
    write_bytes(Path(path), picture.getvalue())
