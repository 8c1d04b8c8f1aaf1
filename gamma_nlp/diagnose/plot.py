"""A diagnosis as a picture: the gains of each layer, and of each category over the checkpoints."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gamma_nlp.diagnose.diagnosis import UNUSED, Diagnosis, category_of
from gamma_nlp.diagnose.outliers import place_of
from gamma_nlp.draw.colours import COLOURS
from gamma_nlp.errors import GammaError, need
from gamma_nlp.files.output import check_file
from gamma_nlp.files.write import write_bytes
from gamma_nlp.gains.table import Gain

FORMATS = (".png", ".svg")
_COLOURS = {str(category): colour for category, colour in COLOURS.items()} | {UNUSED: "#888888"}
_SOFTWARE = "gamma-nlp diagnose"
_MARKERS = "osD^vP*Xhp<>d"
_LOG = 20.0
"""A ratio of largest to smallest value beyond which the axis is logarithmic."""


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn, before anything is read.

    Raises:
        GammaError: Its name has another ending, it is a file that this command has not written, or
            matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise GammaError(f"-o {path}: give a name that ends in {' or '.join(FORMATS)}")
    if path.parent.exists() and not path.parent.is_dir():
        raise GammaError(f"-o {path}: {path.parent} is no folder; give another name")
    check_file(path, (_SOFTWARE.encode(),), _SOFTWARE)
    need("matplotlib", "plot", "plots need")


def plot(found: Diagnosis, path: Path) -> None:
    """Draw a diagnosis and write it as a PNG or an SVG, the same bytes for the same numbers."""
    matplotlib = need("matplotlib", "plot", "plots need")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    several = len(found.states) > 1
    with plt.rc_context({"svg.hashsalt": "gamma_nlp", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(
            1, 1 + several, figsize=(12.5 if several else 8.0, 4.8), dpi=110, layout="constrained",
            squeeze=False,
        )  # fmt: skip
        _by_layer(axes[0][0], found)
        if several:
            _by_step(axes[0][1], found)
        for axis in axes[0]:
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{found.model}: root mean square of its gains", fontsize=12)
        picture = io.BytesIO()  # so that a full disk leaves no half of a file
        kind = path.suffix.lower()[1:]
        metadata = (
            {"Date": None, "Creator": _SOFTWARE} if kind == "svg" else {"Software": _SOFTWARE}
        )
        figure.savefig(picture, format=kind, metadata=metadata)
        plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture.getvalue())


def _by_layer(axis: Any, found: Diagnosis) -> None:
    """Draw a line for each gain that layers repeat; the first checkpoint pale, the last full."""
    series = _series(found)
    depth = 1 + max(int(x) for gains in series.values() for x in _places(gains, 0, True))
    unlike = {one.gain.name for one in found.outliers}
    values: list[float] = []
    used: set[float] = set()
    names = _names(series)
    for number, (name, gains) in enumerate(series.items()):
        colour = _COLOURS[category_of(gains[0])]
        marker = _MARKERS[number % len(_MARKERS)]
        places = _places(gains, depth, after=_is_after(found, gains[0]))
        used |= set(places)
        for i in sorted({0, len(found.states) - 1}):
            last = i == len(found.states) - 1
            rms = [found.states[i].measures[gain.name].rms for gain in gains]
            values += rms
            axis.plot(
                places, rms, "-" if last else ":", color=colour, alpha=1.0 if last else 0.45,
                marker=marker if last else None, markersize=4,
                label=names[name] if last else None,
            )  # fmt: skip
            if not last and len(gains) == 1:
                axis.plot(places, rms, marker, color=colour, alpha=0.45, markersize=4)
            if last:
                odd = [
                    (x, y) for x, y, g in zip(places, rms, gains, strict=True) if g.name in unlike
                ]
                for x, y in odd:
                    axis.plot([x], [y], "o", markersize=11, fillstyle="none", color="#222222")
    several = len(found.states) > 1
    compared = f" at {found.states[-1].label} (dotted: {found.states[0].label})"
    title = f"Per layer{compared if several else ''}"
    title += "; ringed: outliers" if unlike else ""
    axis.set(title=title, xlabel="layer", ylabel="root mean square of the gain")
    _ticks(axis, depth, used)
    _scale(axis, values)
    _legend(axis)


def _by_step(axis: Any, found: Diagnosis) -> None:
    steps = [state.step for state in found.states]
    known = all(step is not None for step in steps)
    places = [float(step or 0) if known else float(i) for i, step in enumerate(steps)]
    values: list[float] = []
    for name, gains in found.categories.items():
        rms = [one.rms for one in found.over(gains)]
        values += rms
        axis.plot(places, rms, "o-", markersize=4, color=_COLOURS[name], label=name)
    axis.set(title="Per category over the checkpoints", xlabel="step" if known else "checkpoint")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if not known:
        axis.set_xticks(places, [state.label for state in found.states], fontsize=8)
    _scale(axis, values)
    _legend(axis)


def _series(found: Diagnosis) -> dict[tuple[str, str], list[Gain]]:
    """Return the gains that layers repeat, by category and name without numbers."""
    series: dict[tuple[str, str], list[Gain]] = {}
    for gain in found.gains:
        series.setdefault((category_of(gain), place_of(gain.name)), []).append(gain)
    return series


def _places(gains: list[Gain], layers: int, after: bool) -> list[float]:
    """Return where the gains stand on the axis: at their layer, or before or after all layers."""
    numbers = [[int(p) for p in gain.name.split(".") if p.isdecimal()] for gain in gains]
    if not numbers[0]:
        return [float(layers) if after else -1.0]
    varying = [i for i in range(len(numbers[0])) if len({row[i] for row in numbers}) > 1]
    if len(varying) > 1:  # stages of blocks: counted through
        return [float(i) for i in range(len(gains))]
    at = varying[0] if varying else 0
    return [float(row[at]) for row in numbers]


def _ticks(axis: Any, layers: int, used: set[float]) -> None:
    """Name some layers, and what stands before and after them all."""
    apart = max(1, round(layers / 12))
    names = {float(layer): str(layer) for layer in range(0, layers, apart)}
    names |= {place: name for place, name in ((-1.0, "before"), (float(layers), "after"))
              if place in used}  # fmt: skip
    axis.set_xticks(list(names), list(names.values()))


def _is_after(found: Diagnosis, gain: Gain) -> bool:
    """Return whether a gain without a layer comes after the first that has one."""
    for other in found.gains:
        if any(part.isdecimal() for part in other.name.split(".")):
            return True
        if other.name == gain.name:
            return False
    return True


def _names(series: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return what the legend calls each series: as little of its name as tells it from others."""
    whole = {one: f"{one[1].removesuffix('.weight')} ({one[0]})" for one in series}
    short = {one: f"{_end(one[1])} ({one[0]})" for one in whole}
    counts = Counter(short.values())
    return {one: short[one] if counts[short[one]] == 1 else whole[one] for one in whole}


def _end(name: str) -> str:
    parts = name.removesuffix(".weight").rpartition("#.")[2].split(".")
    return ".".join(parts[-3:])


def _legend(axis: Any) -> None:
    """Put the legend below the axis, where it hides no line."""
    axis.legend(
        frameon=False, fontsize=7.5, ncols=2, loc="upper left", bbox_to_anchor=(0.0, -0.13),
    )  # fmt: skip


def _scale(axis: Any, values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return
    low, high = min(finite), max(finite)
    if low > 0 and high / low > _LOG:
        axis.set_yscale("log")
        return
    middle, room = (low + high) / 2, max(high - low, 0.02 * high, 1e-9)
    axis.set_ylim(middle - 0.6 * room, middle + 0.6 * room)  # noise must not look like movement
