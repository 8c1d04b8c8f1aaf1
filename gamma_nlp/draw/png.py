"""A sheet as PNG: the same shapes, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import Any

from gamma_nlp.draw.colours import COLOURS
from gamma_nlp.draw.legend import Legend
from gamma_nlp.draw.shapes import (
    FONT,
    RADIUS,
    BoxShape,
    DotShape,
    Frame,
    Line,
    Meet,
    Plus,
    Shape,
    Style,
    Text,
    times,
    width_of,
)
from gamma_nlp.draw.sheet import Sheet
from gamma_nlp.draw.stream import BoxKind
from gamma_nlp.draw.svg import SOFTWARE, corners, tip
from gamma_nlp.errors import need

_DOTS_PER_UNIT = 2.0
_MOST_PIXELS = 16_000
_INK, _SOFT, _EDGE, _FILL, _FOLD = "#1f2430", "#5b6472", "#c3cad4", "#f3f5f8", "#eef2f7"
_LINES = {Style.STREAM: ("#2b3140", 3.0), Style.BRANCH: ("#7d8796", 1.5), Style.LINK: (_SOFT, 1.2)}


def to_png(sheet: Sheet, *, legend: Legend = ()) -> bytes:
    """Return a sheet as PNG, two pixels a unit; large ones in fewer.

    Raises:
        MissingExtra: matplotlib is missing.
    """
    need("matplotlib", "plot", "drawing a PNG needs")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = max([sheet.width, *(50 + width_of(text) for _, text in legend)])
    height = sheet.height + 22.0 * len(legend) + 10
    scale = min(_DOTS_PER_UNIT, _MOST_PIXELS / max(width, height))
    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * scale, facecolor="white")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for shape in sheet.shapes:
        _draw(axes, shape)
    for i, (category, text) in enumerate(legend):
        y = sheet.height + 11 + 22 * i
        x = 14 if category is None else 34
        if category is not None:
            _circle(axes, 20, y, RADIUS, COLOURS[category], "white", 9)
        axes.text(x, y, text, fontsize=FONT, color=_INK, va="center_baseline")
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": SOFTWARE})
    return out.getvalue()


def _circle(axes: Any, x: float, y: float, radius: float, fill: str, edge: str, z: int) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((x, y), radius, facecolor=fill, edgecolor=edge, lw=1.2, zorder=z))


def _rectangle(
    axes: Any, x: float, y: float, width: float, height: float, corner: float, **look: Any
) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={corner}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **look))


def _draw(axes: Any, shape: Shape) -> None:
    match shape:
        case Line():
            _line(axes, shape)
        case DotShape():
            _circle(axes, shape.x, shape.y, RADIUS, COLOURS[shape.dot.category], "white", 6)
        case BoxShape():
            box = shape.box
            left, top = shape.x - shape.width / 2, shape.y - shape.height / 2
            _rectangle(
                axes, left, top, shape.width, shape.height, shape.corner,
                facecolor=_FILL, edgecolor=_EDGE, lw=1, zorder=4,
                linestyle="--" if box.kind is BoxKind.MEMORY else "-",
            )  # fmt: skip
            _text(axes, shape.x, shape.y, box.label, "center", _SOFT)
        case Plus():
            _circle(axes, shape.x, shape.y, RADIUS, "white", _LINES[Style.STREAM][0], 5)
            arm, ink = RADIUS - 3, _LINES[Style.STREAM][0]
            axes.plot([shape.x - arm, shape.x + arm], [shape.y] * 2, color=ink, lw=1.4, zorder=5)
            axes.plot([shape.x] * 2, [shape.y - arm, shape.y + arm], color=ink, lw=1.4, zorder=5)
        case Meet():
            colour = _LINES[Style.BRANCH][0]
            _circle(axes, shape.x, shape.y, 2.4, colour, colour, 3)
        case Frame():
            _frame(axes, shape)
        case Text():
            where = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            _text(axes, shape.x, shape.y, shape.text, where, _INK if shape.title else _SOFT,
                  bold=shape.title)  # fmt: skip


def _frame(axes: Any, frame: Frame) -> None:
    _rectangle(
        axes, frame.x, frame.y, frame.width, frame.height, 7,
        facecolor=_FOLD, edgecolor=_EDGE, lw=1, zorder=1,
    )  # fmt: skip
    text = times(frame.count)
    wide = width_of(text) + 10
    x = frame.x + frame.width - wide
    _rectangle(
        axes, x, frame.y - 7, wide, 16, 8, facecolor="white", edgecolor=_EDGE, lw=1, zorder=6
    )
    _text(axes, x + wide / 2, frame.y + 1, text, "center", _INK, bold=True)


def _text(
    axes: Any, x: float, y: float, text: str, where: str, colour: str, *, bold: bool = False
) -> None:
    weight = "bold" if bold else "normal"
    axes.text(
        x, y, text, fontsize=FONT * 0.93, color=colour, ha=where, va="center_baseline",
        weight=weight, zorder=7, parse_math=False,
    )  # fmt: skip


def _line(axes: Any, line: Line) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    colour, width = _LINES[line.style]
    z = 3 if line.style is Style.STREAM else 2
    places, steps = [line.points[0]], [Path.MOVETO]
    for one, corner, two in corners(line.points):
        places += [one, corner, two]
        steps += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*places, line.points[-1]], [*steps, Path.LINETO])
    dashes = (0, (3, 2.4)) if line.style is Style.LINK else "-"
    axes.add_patch(
        PathPatch(
            path, facecolor="none", edgecolor=colour, lw=width, zorder=z, linestyle=dashes,
            joinstyle="round", capstyle="round",
        )
    )  # fmt: skip
    if line.arrow:
        (x0, y0), (x, y) = line.points[-2:]
        axes.add_patch(Polygon(tip(x - x0, y - y0, x, y), color=colour, zorder=z))
