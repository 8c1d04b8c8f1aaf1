"""What a picture is made of once it has places: few kinds of shapes, for any back end."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gamma_nlp.draw.stream import Box, BoxKind, Dot

FONT = 11.0
LETTER = 6.4
"""Width of a letter of the font, on average and then some."""

RADIUS = 6.5


class Style(enum.Enum):
    """How a line looks."""

    STREAM = "stream"
    BRANCH = "branch"
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through points, its corners rounded."""

    points: tuple[tuple[float, float], ...]
    style: Style
    arrow: bool = False


@dataclass(frozen=True, kw_only=True)
class DotShape:
    """A gain, or those of a fold."""

    x: float
    y: float
    dot: Dot


@dataclass(frozen=True, kw_only=True)
class BoxShape:
    """A box, by its centre."""

    x: float
    y: float
    width: float
    height: float
    box: Box

    @property
    def corner(self) -> float:
        """The radius of its corners: attention has round ends."""
        return {BoxKind.ATTENTION: 9.0, BoxKind.INPUT: 2.0}.get(self.box.kind, 4.0)


@dataclass(frozen=True, kw_only=True)
class Plus:
    """A residual addition."""

    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Meet:
    """Where paths meet without a residual addition."""

    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A pattern that repeats: the rectangle around it and its count."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Text:
    """A piece of text; ``anchor`` is ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    title: bool = False


Shape: TypeAlias = Line | DotShape | BoxShape | Plus | Meet | Frame | Text


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Where links meet what a node is drawn as: its left edge, its middle and its height."""

    left: float
    x: float
    y: float


@dataclass(kw_only=True)
class Piece:
    """Shapes around an axis at x = 0, from y = 0 down.

    Attributes:
        left: How far they reach to the left of the axis.
        right: How far to the right.
        height: How far down.
        shapes: The shapes.
        anchors: Where each node is.
    """

    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    shapes: list[Shape] = field(default_factory=list)
    anchors: dict[int, Anchor] = field(default_factory=dict)

    def put(self, other: Piece, x: float, y: float) -> None:
        """Put a piece into this one, its axis at x and its top at y."""
        self.left = max(self.left, other.left - x)
        self.right = max(self.right, other.right + x)
        self.shapes += [moved(shape, x, y) for shape in other.shapes]
        for node, anchor in other.anchors.items():
            self.anchors[node] = Anchor(left=anchor.left + x, x=anchor.x + x, y=anchor.y + y)

    def draw(self, *shapes: Shape) -> None:
        """Add shapes, which must lie within its bounds."""
        self.shapes += shapes

    def mark(self, nodes: Iterable[int], left: float, x: float, y: float) -> None:
        """Note where nodes are."""
        for node in nodes:
            self.anchors[node] = Anchor(left=left, x=x, y=y)


def moved(shape: Shape, x: float, y: float) -> Shape:
    """Return a shape at another place."""
    if isinstance(shape, Line):
        return replace(shape, points=tuple((px + x, py + y) for px, py in shape.points))
    return replace(shape, x=shape.x + x, y=shape.y + y)


def times(count: int) -> str:
    """Return how often a pattern repeats, as text."""
    return f"\u00d7 {count}"


def width_of(text: str) -> float:
    """Return about how wide a text is."""
    return LETTER * len(text)
