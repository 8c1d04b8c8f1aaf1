"""Read a picture as a person does: follow the lines from a dot, and say its category.

This knows the picture alone, so that what it says can be held against what the table says. Where
streams read and add one another in ways that no drawing of lines and loops shows, the two differ,
and the picture says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gamma_nlp.draw.stream import (
    Block,
    Box,
    BoxKind,
    Dot,
    Element,
    Fold,
    Picture,
    Split,
    Stream,
    Tangle,
    walk,
)
from gamma_nlp.gains.category import Category


def read(picture: Picture) -> list[tuple[Dot, Category]]:
    """Return each dot with the category that the picture shows; those of folds several times."""
    reading = _Reading()
    for tower in picture.towers:
        reading.stream(tower, [])
    for link in picture.links:
        for source in reading.at.get(link.source, ()):
            reading.after[source] += reading.at.get(link.target, ())
    return [(dot, reading.category(at)) for at, dot in reading.dots.items()]


def misread(picture: Picture) -> list[Dot]:
    """Return the dots whose place shows another category than their use has.

    Without any residual addition in the model the lines show none, and there are none of these.
    """
    if not any(isinstance(e, Block) for tower in picture.towers for e in walk(tower)):
        return []
    found = {id(dot): dot for dot, shown in read(picture) if shown is not dot.placed}
    return list(found.values())


@dataclass
class _Reading:
    """The lines of a picture: what each thing leads to."""

    after: list[list[int]] = field(default_factory=list)
    weights: set[int] = field(default_factory=set)
    skips: dict[int, set[int]] = field(default_factory=dict)
    dots: dict[int, Dot] = field(default_factory=dict)
    at: dict[int, list[int]] = field(default_factory=dict)

    def category(self, start: int) -> Category:
        """Follow the lines from a dot to the first plus on every way."""
        seen, stack = {(start, False)}, [(start, False)]
        found: set[Category] = set()
        while stack:
            here, weighted = stack.pop()
            for there in self.after[here]:
                if there in self.skips:
                    if here in self.skips[there]:
                        return Category.SHORTCUT
                    found.add(Category.BRANCH_INNER if weighted else Category.BRANCH_LAST)
                    continue
                step = (there, weighted or there in self.weights)
                if step not in seen:
                    seen.add(step)
                    stack.append(step)
        if Category.BRANCH_LAST in found:
            return Category.BRANCH_LAST
        return Category.BRANCH_INNER if found else Category.HEAD

    def _new(self, before: list[int], nodes: tuple[int, ...]) -> int:
        self.after.append([])
        new = len(self.after) - 1
        for other in before:
            self.after[other].append(new)
        for node in nodes:
            self.at.setdefault(node, []).append(new)
        return new

    def stream(self, stream: Stream, before: list[int]) -> list[int]:
        """Add a stream behind some things, and return the last of it."""
        for element in stream:
            before = self.element(element, before)
        return before

    def element(self, element: Element, before: list[int]) -> list[int]:
        """Add an element behind some things, and return the last of it."""
        match element:
            case Dot():
                new = self._new(before, element.nodes)
                self.dots[new] = element
                return [new]
            case Box():
                new = self._new([] if element.kind is BoxKind.MEMORY else before, element.nodes)
                if element.weight:
                    self.weights.add(new)
                return [new]
            case Block():
                skip = self.stream(element.skip, before)
                ends = [end for branch in element.branches for end in self.stream(branch, before)]
                new = self._new([*skip, *ends], element.nodes)
                self.skips[new] = set(skip)
                return [new]
            case Split():
                return [end for path in element.paths for end in self.stream(path, before)]
            case Fold():
                for _ in range(2):  # each turn is followed by another, and the last by what follows
                    before = self.stream(element.pattern, before)
                return before
            case Tangle():
                return self._tangle(element, before)

    def _tangle(self, tangle: Tangle, before: list[int]) -> list[int]:
        last = len(tangle.elements)
        ends = {-1: before}
        for place, element in enumerate(tangle.elements):
            read = [end for a, b in tangle.edges if b == place for end in ends[a]]
            ends[place] = self.element(element, read)
        return [end for a, b in tangle.edges if b == last for end in ends[a]]
