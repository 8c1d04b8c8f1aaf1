"""A whole drawing: the towers of one or several models side by side, with links and titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gamma_nlp.draw.blocks import common
from gamma_nlp.draw.layout import place
from gamma_nlp.draw.shapes import Anchor, Line, Piece, Shape, Style, Text, moved, width_of
from gamma_nlp.draw.stream import Box, Picture, Stream, walk

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


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tower stands: its edges, its axis, its top."""

    left: float
    x: float
    right: float
    top: float


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
    places: list[_Place] = []
    named = len(picture.towers) > 1
    top = _TITLE + (_TITLE - 3 if named else 0)
    names = tower_names(picture.towers) if named else [""] * len(picture.towers)
    for number, (tower, name) in enumerate(zip(picture.towers, names, strict=True)):
        piece = place(tower)
        piece.left = max(piece.left, width_of(name) / 2)
        piece.right = max(piece.right, width_of(name) / 2)
        end = piece.height
        tail = Line(points=((0, end), (0, end + _TAIL)), style=Style.STREAM, arrow=True)
        piece.draw(tail)
        piece.height += _TAIL
        x = (places[-1].right + _BETWEEN_TOWERS if places else 0.0) + piece.left
        whole.put(piece, x, top)
        whole.height = max(whole.height, top + piece.height)
        places.append(_Place(left=x - piece.left, x=x, right=x + piece.right, top=top))
        owner |= dict.fromkeys(piece.anchors, number)
        if name:
            whole.draw(Text(x=x, y=top - 13, text=name, anchor="middle"))
    title = Text(x=0, y=8, text=picture.model, title=True)
    whole.draw(title)
    whole.right = max(whole.right, width_of(picture.model) * 1.45)
    whole.shapes = [*_links(picture, whole, owner, places), *whole.shapes]
    return whole


def tower_names(towers: Sequence[Stream]) -> list[str]:
    """Return a name for each tower: where most of its modules are, as far as this differs."""
    ways = [_mostly(tower) for tower in towers]
    shared = len(common(".".join(way) for way in ways).split(".")) if all(ways) else 0
    if shared and common(".".join(way) for way in ways) == "":
        shared = 0
    return [next(iter(way[shared:]), "") for way in ways]


def _mostly(tower: Stream) -> list[str]:
    """Return the path of modules that holds most boxes of a tower, level by level."""
    left = [
        module.split(".")
        for element in walk(tower)
        if isinstance(element, Box)
        for module in element.modules
        if module
    ]
    whole, way = len(left), list[str]()
    while left:
        heads = [parts[0] for parts in left if parts]
        most = max(dict.fromkeys(heads), key=heads.count, default="")
        if not most or most.isdecimal() or 2 * heads.count(most) <= whole:
            break
        way.append(most)
        left = [parts[1:] for parts in left if parts and parts[0] == most]
    return way


def _links(
    picture: Picture, whole: Piece, owner: dict[int, int], places: Sequence[_Place]
) -> list[Shape]:
    """Return the arrows between towers, and those to blocks further down one tower."""
    wanted: dict[tuple[Anchor, Anchor], tuple[int, int]] = {}
    for link in picture.links:
        if link.source in owner and link.target in owner:
            ends = whole.anchors[link.source], whole.anchors[link.target]
            if ends[0] != ends[1]:
                wanted.setdefault(ends, (owner[link.source], owner[link.target]))
    found: list[Shape] = []
    lanes: dict[Anchor, float] = {}
    for (source, target), (here, there) in wanted.items():
        lane = lanes.setdefault(source, 8.0 + 5.0 * (len(lanes) % 4))
        x = places[here].right + lane if here < there else places[here].left - min(lane, 10)
        start = source.left if here == there else source.x
        end = (target.left - 1, target.y)
        if here != there and target.y - places[there].top < 20:  # it enters at the top
            end = (places[there].x, places[there].top)
        points = ((start, source.y), (x, source.y), (x, end[1]), end)
        found.append(Line(points=points, style=Style.LINK, arrow=True))
    return found
