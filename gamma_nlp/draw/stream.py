"""What is drawn, as plain data: streams of elements, with the branches that leave and join them.

A picture is a tree. A **stream** is a sequence of elements from where a signal enters to where it
leaves. A **block** is a residual addition: a stream that goes on (the skip) beside those that leave
it and come back (the branches). Other paths that split and meet are a **split**. What is no such
tree is a **tangle**: elements in the order in which they run, and which reads which.

Every use of a gain is one dot; a **fold** is a pattern that repeats, and its dots stand for the
gains of all its turns.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gamma_nlp.gains.category import Category


class BoxKind(enum.Enum):
    """What a box stands for."""

    INPUT = "input"
    """Where a tower starts: embeddings, images, tokens of its own."""
    WEIGHT = "weight"
    ATTENTION = "attention"
    """The signal contracted with itself."""
    PLAIN = "plain"
    """Nothing that needs to be seen: no parameter is contracted here."""
    MEMORY = "memory"
    """A signal that comes from elsewhere: another tower, or further up."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A use of a gain, or one in each turn of a pattern that repeats.

    Attributes:
        nodes: The nodes of the graph that it stands for.
        gains: The gains' names, without repetition.
        label: What to write beside it.
        category: The category in the table, which gives the colour.
        placed: The category that this use has by itself; another use may decide.
        kind: As in the table.
        offset: As in the table.
    """

    nodes: tuple[int, ...]
    gains: tuple[str, ...]
    label: str
    category: Category
    placed: Category
    kind: str
    offset: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """Operations without a gain, of one or several modules.

    Attributes:
        nodes: The nodes of the graph that it stands for.
        kind: What they are.
        label: What to write into it.
        modules: The modules that hold the weights.
        weight: Whether a signal that passes it may be said to have passed a weight.
    """

    nodes: tuple[int, ...]
    kind: BoxKind
    label: str
    modules: tuple[str, ...] = ()
    weight: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual addition: what its skip and its branches hold, and the node that adds."""

    nodes: tuple[int, ...]
    skip: Stream
    branches: tuple[Stream, ...]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Paths that start at one point and meet, but not in a residual addition."""

    paths: tuple[Stream, ...]


@dataclass(frozen=True, kw_only=True)
class Tangle:
    """What is neither a sequence nor a split: elements, and which reads which.

    Attributes:
        elements: In the order in which they run.
        edges: Pairs of positions in ``elements``; -1 is where the signal enters, and the number of
            elements where it leaves.
    """

    elements: Stream
    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A pattern that repeats; its elements stand for all turns."""

    count: int
    pattern: Stream


Element: TypeAlias = Dot | Box | Block | Split | Tangle | Fold
Stream: TypeAlias = tuple[Element, ...]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A signal that is read elsewhere than where the stream leads: memory of cross-attention."""

    source: int
    target: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A model's streams, side by side, and what they read of one another.

    Attributes:
        model: The title: the model's class, if nobody gives another.
        towers: A stream for each way from an input to an output, those that are read first.
        links: Reads across, as nodes.
    """

    model: str
    towers: tuple[Stream, ...]
    links: tuple[Link, ...]


def children(element: Element) -> tuple[Stream, ...]:
    """Return the streams that an element holds."""
    match element:
        case Block():
            return (element.skip, *element.branches)
        case Split():
            return element.paths
        case Tangle():
            return (element.elements,)
        case Fold():
            return (element.pattern,)
        case _:
            return ()


def walk(stream: Stream) -> Iterator[Element]:
    """Yield every element of a stream, those inside others included."""
    for element in stream:
        yield element
        for inner in children(element):
            yield from walk(inner)


def dots(picture: Picture) -> list[Dot]:
    """Return every dot of a picture."""
    return [e for tower in picture.towers for e in walk(tower) if isinstance(e, Dot)]


def has_tangle(picture: Picture) -> bool:
    """Return whether a part of the picture is drawn as a plain list of what reads what."""
    return any(isinstance(e, Tangle) for tower in picture.towers for e in walk(tower))
