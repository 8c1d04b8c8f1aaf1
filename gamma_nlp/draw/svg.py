"""A sheet as SVG, self-contained: its style is inside, and every name in it starts with ``gn-``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TypeAlias

from gamma_nlp.draw.colours import COLOURS, DARK
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
    Text,
    times,
    width_of,
)
from gamma_nlp.draw.sheet import Sheet
from gamma_nlp.draw.stream import BoxKind, Dot
from gamma_nlp.gains.category import Category

Point: TypeAlias = tuple[float, float]

SOFTWARE = "gamma-nlp draw"
MARK = f"<!-- {SOFTWARE} -->"

_FINGER = 12.0
"""Radius around a dot that can be pointed at, for fingers."""

_STYLE = """\
.gn{--ink:#1f2430;--soft:#5b6472;--line:#2b3140;--loop:#7d8796;--box:#f3f5f8;--edge:#c3cad4;\
--fold:#eef2f7;--back:#fff;LIGHT}
@media (prefers-color-scheme:dark){.gn{--ink:#e8ebf0;--soft:#a6afbd;--line:#dfe4ec;--loop:#8b95a5;\
--box:#262b35;--edge:#465062;--fold:#1f242d;--back:#16191f;DARK}}
svg.gn{background:var(--back)}
.gn text{font:FONTpx system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--soft);\
dominant-baseline:central}
.gn .gn-title{font-weight:600;font-size:13px;fill:var(--ink)}
.gn .gn-count{font-weight:600;fill:var(--ink)}
.gn .gn-word{fill:var(--ink)}
.gn-stream,.gn-branch,.gn-link,.gn-plus path{fill:none;stroke-linejoin:round;stroke-linecap:round}
.gn-stream{stroke:var(--line);stroke-width:3}
.gn-branch{stroke:var(--loop);stroke-width:1.5}
.gn-link{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:4 3}
.gn-box{fill:var(--box);stroke:var(--edge)}
.gn-memory{stroke-dasharray:3 2}
.gn-frame{fill:var(--fold);stroke:var(--edge);stroke-width:1}
.gn-chip{fill:var(--back);stroke:var(--edge)}
.gn-plus circle{fill:var(--back);stroke:var(--line);stroke-width:1.6}
.gn-plus path{stroke:var(--line);stroke-width:1.6}
.gn-meet{fill:var(--loop)}
.gn-tip-stream{fill:var(--line)}.gn-tip-branch{fill:var(--loop)}.gn-tip-link{fill:var(--soft)}
.gn-dot circle{stroke:var(--back);stroke-width:1.5}
.gn .gn-dot .gn-hit{fill:transparent;stroke:none}
.gn-dot{cursor:pointer}
.gn-dot:focus{outline:none}
.gn-dot:focus circle,.gn-dot:hover circle,.gn-dot.gn-on circle{stroke:var(--ink);stroke-width:2.5}
"""


def css_name(category: Category) -> str:
    """Return a category as a name in a style sheet."""
    return category.value.replace("_", "-")


def style() -> str:
    """Return the style sheet of a drawing."""

    def names(colours: dict[Category, str]) -> str:
        return "".join(f"--{css_name(c)}:{v};" for c, v in colours.items())

    rules = "".join(f".gn-{css_name(c)}{{fill:var(--{css_name(c)})}}\n" for c in Category)
    text = _STYLE.replace("LIGHT", names(COLOURS)).replace("DARK", names(DARK))
    return text.replace("FONT", f"{FONT:g}") + rules


def to_svg(
    sheet: Sheet,
    tell: Callable[[Dot], str],
    *,
    legend: Legend = (),
    number: Callable[[Dot], int] | None = None,
) -> str:
    """Return a sheet as SVG.

    Args:
        sheet: What to draw.
        tell: What to say about a dot, in lines; it shows when the pointer rests on it.
        legend: What to write below, each text with the category whose colour it explains.
        number: The number of a dot, for a page that knows more of it.
    """
    below = 22.0 * len(legend) + (10 if legend else 0)
    width, height = sheet.width, sheet.height + below
    if legend:
        width = max(width, 30 + max(width_of(text) for _, text in legend) + 14)
    order: tuple[type, ...] = (Frame, Line, Meet, BoxShape, Plus, DotShape, Text)
    shapes = sorted(sheet.shapes, key=lambda shape: order.index(type(shape)))
    body = [_shape(shape, tell, number) for shape in shapes]
    for i, (category, text) in enumerate(legend):
        y = sheet.height + 11 + 22 * i
        if category is not None:
            body.append(
                f'<circle class="gn-{css_name(category)}" cx="20" cy="{y:g}" r="{RADIUS:g}"/>'
            )
        x = 14 if category is None else 34
        body.append(f'<text class="gn-word" x="{x}" y="{y:g}">{escape(text)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gn" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="group" '
        'aria-label="the residual stream and its gains">\n'
        f"{MARK}\n<style>\n{style()}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _shape(shape: Shape, tell: Callable[[Dot], str], number: Callable[[Dot], int] | None) -> str:
    match shape:
        case Line():
            return _line(shape)
        case DotShape():
            name = css_name(shape.dot.category)
            known = "" if number is None else f' data-dot="{number(shape.dot)}"'
            return (
                f'<g class="gn-dot" tabindex="0" role="img"{known}>'
                f"<title>{escape(tell(shape.dot))}</title>"
                f'<circle class="gn-hit" cx="{shape.x:g}" cy="{shape.y:g}" r="{_FINGER:g}"/>'
                f'<circle class="gn-{name}" cx="{shape.x:g}" cy="{shape.y:g}" r="{RADIUS:g}"/></g>'
            )
        case BoxShape():
            return _box(shape)
        case Plus():
            arm = RADIUS - 3
            return (
                f'<g class="gn-plus"><circle cx="{shape.x:g}" cy="{shape.y:g}" r="{RADIUS:g}"/>'
                f'<path d="M{shape.x - arm:g} {shape.y:g}h{2 * arm:g}M{shape.x:g} '
                f'{shape.y - arm:g}v{2 * arm:g}"/></g>'
            )
        case Meet():
            return f'<circle class="gn-meet" cx="{shape.x:g}" cy="{shape.y:g}" r="2.6"/>'
        case Frame():
            return _frame(shape)
        case Text():
            extra = ' class="gn-title"' if shape.title else ""
            return (
                f'<text{extra} x="{shape.x:g}" y="{shape.y:g}" text-anchor="{shape.anchor}">'
                f"{escape(shape.text)}</text>"
            )


def _box(shape: BoxShape) -> str:
    box = shape.box
    kind = " gn-memory" if box.kind is BoxKind.MEMORY else ""
    title = f"<title>{escape(box.kind.value)}</title>"
    return (
        f'<g>{title}<rect class="gn-box{kind}" x="{shape.x - shape.width / 2:g}" '
        f'y="{shape.y - shape.height / 2:g}" width="{shape.width:g}" height="{shape.height:g}" '
        f'rx="{shape.corner:g}"/><text x="{shape.x:g}" y="{shape.y:g}" text-anchor="middle">'
        f"{escape(box.label)}</text></g>"
    )


def _frame(frame: Frame) -> str:
    text = times(frame.count)
    wide = width_of(text) + 10
    return (
        f'<rect class="gn-frame" x="{frame.x:g}" y="{frame.y:g}" width="{frame.width:g}" '
        f'height="{frame.height:g}" rx="7"/>'
        f'<rect class="gn-chip" x="{frame.x + frame.width - wide:g}" y="{frame.y - 7:g}" '
        f'width="{wide:g}" height="16" rx="8"/>'
        f'<text class="gn-count" x="{frame.x + frame.width - wide / 2:g}" '
        f'y="{frame.y + 1:g}" text-anchor="middle">{text}</text>'
    )


def _line(line: Line) -> str:
    path = rounded(line.points)
    text = f'<path class="gn-{line.style.value}" d="{path}"/>'
    if line.arrow:
        (x0, y0), (x, y) = line.points[-2:]
        points = "L".join(f"{a:g} {b:g}" for a, b in tip(x - x0, y - y0, x, y))
        text += f'<path class="gn-tip-{line.style.value}" d="M{points}Z"/>'
    return text


def tip(dx: float, dy: float, x: float, y: float) -> list[Point]:
    """Return the corners of an arrow's head that points along (dx, dy) to (x, y)."""
    length = max((dx * dx + dy * dy) ** 0.5, 1e-6)
    ux, uy = dx / length * 6, dy / length * 6
    return [(x, y), (x - ux - uy * 0.6, y - uy + ux * 0.6), (x - ux + uy * 0.6, y - uy - ux * 0.6)]


def rounded(points: Sequence[Point]) -> str:
    """Return a path through points whose corners are rounded."""
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for one, corner, two in corners(points):
        text += f"L{one[0]:g} {one[1]:g}Q{corner[0]:g} {corner[1]:g} {two[0]:g} {two[1]:g}"
    return text + f"L{points[-1][0]:g} {points[-1][1]:g}"


def corners(points: Sequence[Point], radius: float = 7.0) -> list[tuple[Point, Point, Point]]:
    """Return, for each corner of a path, where its curve starts, the corner, and where it ends."""
    kept = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    return [
        (_toward(corner, before, radius), corner, _toward(corner, after, radius))
        for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False)
    ]


def _toward(start: Point, end: Point, most: float) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = (dx * dx + dy * dy) ** 0.5
    share = min(most, length / 2) / length if length else 0
    return start[0] + dx * share, start[1] + dy * share
