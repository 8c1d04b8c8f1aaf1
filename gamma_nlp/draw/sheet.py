"""A whole drawing: the towers of one or several models side by side, with links and titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gamma_nlp.draw.layout import place
from gamma_nlp.draw.shapes import Anchor, Line, Piece, Shape, Style, Text, moved, width_of
from gamma_nlp.draw.stream import Box, Element, Picture, Stream, walk

_MARGIN = 14.0
_TITLE = 26.0
_BETWEEN_TOWERS = 30.0
_BETWEEN_MODELS = 40.0
_TAIL = 18.0


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Shapes with their places on a sheet, those in front last."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def lay_out(pictures: Sequence[Picture]) -> Sheet:
    """Return pictures of models side by side on one sheet."""
    shapes: list[Shape] = []
    x, height = _MARGIN, 0.0
    for picture in pictures:
        piece = _model(picture)
        shapes += [moved(shape, x, _MARGIN) for shape in piece.shapes]
        x += piece.right + _BETWEEN_MODELS
        height = max(height, piece.height)
    width = x - _BETWEEN_MODELS + _MARGIN
    return Sheet(width=width, height=height + 2 * _MARGIN, shapes=tuple(shapes))


def _model(picture: Picture) -> Piece:
    """Return one model; its left edge is at x = 0."""
    whole = Piece()
    owner: dict[int, int] = {}
    edges: list[tuple[float, float]] = []
    named = len(picture.towers) > 1
    top = _TITLE + (_TITLE - 6 if named else 0)
    for number, tower in enumerate(picture.towers):
        piece = place(tower)
        name = tower_name(tower) if named else ""
        piece.left = max(piece.left, width_of(name) / 2)
        piece.right = max(piece.right, width_of(name) / 2)
        end = piece.height
        tail = Line(points=((0, end), (0, end + _TAIL)), style=Style.STREAM, arrow=True)
        piece.draw(tail)
        piece.height += _TAIL
        x = (edges[-1][1] + _BETWEEN_TOWERS if edges else 0.0) + piece.left
        whole.put(piece, x, top)
        whole.height = max(whole.height, top + piece.height)
        edges.append((x - piece.left, x + piece.right))
        owner |= dict.fromkeys(piece.anchors, number)
        if name:
            whole.draw(Text(x=x, y=top - 10, text=name, anchor="middle"))
    title = Text(x=0, y=8, text=picture.model, title=True)
    whole.draw(title)
    whole.right = max(whole.right, width_of(picture.model) * 1.15)
    whole.shapes = [*_links(picture, whole, owner, edges), *whole.shapes]
    return whole


def tower_name(tower: Stream) -> str:
    """Return the module that a tower belongs to, as far as its boxes tell."""
    from gamma_nlp.draw.blocks import common

    modules = [module for e in walk(tower) for module in _modules(e)]
    inner = [module for module in modules if module]
    shared = [part for part in common(inner).split(".") if part and not part.isdecimal()]
    if shared:
        return shared[-1]
    heads = [module.split(".")[0] for module in inner]
    return max(dict.fromkeys(heads), key=heads.count) if heads else ""


def _modules(element: Element) -> Iterator[str]:
    if isinstance(element, Box):
        yield from element.modules


def _links(
    picture: Picture, whole: Piece, owner: dict[int, int], edges: list[tuple[float, float]]
) -> list[Shape]:
    """Return the arrows between towers, and those to blocks further down one tower."""
    wanted: dict[tuple[Anchor, Anchor], tuple[int, int]] = {}
    for link in picture.links:
        if link.source in owner and link.target in owner:
            ends = whole.anchors[link.source], whole.anchors[link.target]
            wanted.setdefault(ends, (owner[link.source], owner[link.target]))
    found: list[Shape] = []
    lanes: dict[Anchor, float] = {}
    for (source, target), (here, there) in wanted.items():
        if here == there:
            continue
        lane = lanes.setdefault(source, 8.0 + 6.0 * (len(lanes) % 4))
        x = edges[here][1] + lane if here < there else edges[here][0] - lane
        points = (
            (source.x, source.y),
            (x, source.y),
            (x, target.y),
            (target.left - 1, target.y),
        )
        found.append(Line(points=points, style=Style.LINK, arrow=True))
    return found
