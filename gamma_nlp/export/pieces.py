"""Patterns that tell names apart: pieces of names that a person would write, in an engine's syntax.

A pattern is one piece of a name, or a whole component before a piece. Pieces start at a component
or at a word of one (``norm.weight`` in ``q_norm.weight``) and end with the name or a component.
A number that is a component of its own, such as that of a layer, stands for any number, unless the
decision differs from layer to layer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate

NUMBER = "#"
"""Stands for any number among the parts of a name."""

MOST_PARTS = 4
_WORD = re.compile(r"(?<=_)(?=[A-Za-z])|(?<=\d)(?=[A-Za-z])|(?=[Nn]orm)")

Part = str | tuple[int, ...]
"""A component: its text, ``NUMBER``, or some numbers."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Names that differ in numbers only and want the same."""

    parts: tuple[Part, ...]
    names: tuple[str, ...]
    wants: float


@dataclass(frozen=True, kw_only=True, order=True)
class Pattern:
    """A pattern's text, and how hard it is to read: less is better.

    ``fixed`` says that it has a number in it, so that it may match some names of an item only.
    """

    cost: float
    text: str
    fixed: bool


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """How an engine writes patterns and compares them with a name."""

    dot: str
    write: Callable[[Part], str | None]
    single: Callable[[str, _Ends], Iterable[str]]
    double: Callable[[str, str, _Ends], Iterable[str]]
    finder: Callable[[str], Callable[[str], object]]

    def body(self, parts: Sequence[Part]) -> str | None:
        """Return consecutive parts as text; ``None`` where the syntax cannot write one."""
        written = [self.write(part) for part in parts]
        return None if None in written else self.dot.join(map(str, written))


@dataclass(frozen=True, kw_only=True)
class _Ends:
    """Where a piece starts and ends: at the start of the name or of a component, at the end."""

    first: bool
    component: bool
    last: bool
    before_first: bool = False


def items(wanted: Mapping[str, float]) -> list[Item]:
    """Return names in as few items as possible: with all numbers open, else with some fixed."""
    alike: dict[str, list[str]] = {}
    for name in wanted:
        alike.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", NUMBER, name), []).append(name)
    return [item for names in alike.values() for item in _split(names, wanted)]


def _split(names: Sequence[str], wanted: Mapping[str, float]) -> list[Item]:
    split = [name.split(".") for name in names]
    numbers = [i for i, part in enumerate(split[0]) if part.isdecimal()]
    for size in range(len(numbers) + 1):
        for fixed in itertools.combinations(numbers, size):
            groups: dict[tuple[Part, ...], list[str]] = {}
            for name, parts in zip(names, split, strict=True):
                key = tuple(
                    (NUMBER if i not in fixed else (int(part),)) if i in numbers else part
                    for i, part in enumerate(parts)
                )
                groups.setdefault(key, []).append(name)
            if all(len({wanted[name] for name in group}) == 1 for group in groups.values()):
                return [
                    Item(parts=key, names=tuple(group), wants=wanted[group[0]])
                    for key, group in groups.items()
                ]
    raise AssertionError("names are distinct")


def candidates(found: Sequence[Item], syntax: Syntax) -> list[Pattern]:
    """Return every pattern that a piece of some item makes, the most readable first."""
    best: dict[str, Pattern] = {}
    for parts in dict.fromkeys([item.parts for item in found] + _together(found)):
        for cost, text, fixed in _patterns(parts, syntax):
            cost += text.count("*") / 10
            if text not in best or cost < best[text].cost:
                best[text] = Pattern(cost=cost, text=text, fixed=fixed)
    return sorted(best.values())


def _together(found: Sequence[Item]) -> list[tuple[Part, ...]]:
    """Return items that differ in one fixed number and want the same as one: layers 0, 2, 5."""
    groups: dict[tuple[object, ...], set[int]] = {}
    for item in found:
        for i, part in enumerate(item.parts):
            if isinstance(part, tuple):
                key = (item.parts[:i], item.parts[i + 1 :], item.wants)
                groups.setdefault(key, set()).update(part)
    return [
        (*before, tuple(sorted(numbers)), *after)  # type: ignore[misc]
        for (before, after, _), numbers in groups.items()
        if len(numbers) > 1
    ]


def _patterns(parts: tuple[Part, ...], syntax: Syntax) -> Iterator[tuple[float, str, bool]]:
    """Yield a pattern's cost, its text, and whether it has a fixed number."""
    count = len(parts)
    for start in range(count):
        for word in _starts(parts[start]):
            for end in {
                *range(start + 1, min(count, start + MOST_PARTS) + 1),
                *_whole(start, count),
            }:
                ends = _Ends(first=start == 0, component=word == 0, last=end == count)
                piece = _piece(parts[start:end], word)
                body = syntax.body(piece)
                if body is None or all(part == NUMBER for part in piece):
                    continue
                cost, fixed = _cost(piece, ends), _fixed(piece)
                for text in syntax.single(body, ends):
                    yield cost, text, fixed
                if ends.last:
                    for more, text, also in _after(parts[:start], body, ends, syntax):
                        yield cost + more, text, fixed or also


def _whole(start: int, count: int) -> tuple[int, ...]:
    """Return the end of a piece that is the whole name, however long."""
    return (count,) if start == 0 else ()


def _fixed(parts: Sequence[Part]) -> bool:
    return any(isinstance(part, tuple) for part in parts)


def _after(
    before: tuple[Part, ...], body: str, ends: _Ends, syntax: Syntax
) -> Iterator[tuple[float, str, bool]]:
    """Yield patterns of a whole component, or of some up to a fixed number, and a piece."""
    for first, part in enumerate(before):
        if part == NUMBER or not isinstance(part, str):
            continue
        stops = [i + 1 for i, other in enumerate(before) if isinstance(other, tuple) and i > first]
        for stop in [first + 1, *stops]:
            head = syntax.body(before[first:stop])
            if head is None:
                continue
            cost = 10 * (stop - first) + len(head) / 100
            for text in syntax.double(head, body, replace(ends, before_first=first == 0)):
                yield cost, text, _fixed(before[first:stop])


def _starts(part: Part) -> list[int]:
    """Return where a piece may start in a component: at its start, and at each word of it."""
    if not isinstance(part, str) or part == NUMBER:
        return [0]
    return sorted({0, *(match.start() for match in _WORD.finditer(part))})


def _piece(parts: Sequence[Part], word: int) -> tuple[Part, ...]:
    first = parts[0]
    return (first[word:] if isinstance(first, str) else first, *parts[1:])


def _cost(piece: Sequence[Part], ends: _Ends) -> float:
    open_ = sum(part == NUMBER for part in piece)
    length = sum(len(part) if isinstance(part, str) else 2 * len(part) for part in piece)
    bare = not isinstance(piece[0], str) or piece[0] == NUMBER  # a number without its list
    return (
        5 * bare
        + 3 * (not ends.component)
        + 2 * (not ends.last)
        + len(piece)
        + open_
        + length / 100
    )


def _regex_part(part: Part) -> str:
    if isinstance(part, tuple):
        numbers = "|".join(map(str, part))
        return numbers if len(part) == 1 else f"(?:{numbers})"
    return r"\d+" if part == NUMBER else re.escape(part)


def _regex_single(body: str, ends: _Ends) -> Iterator[str]:
    tail = "$" if ends.last else r"\."
    yield (r"\b" if ends.component else "") + body + tail
    if ends.first and ends.component:
        yield "^" + body + tail


def _regex_double(head: str, body: str, ends: _Ends) -> Iterator[str]:
    tail = r"\..*" + (r"\b" if ends.component else "") + body + "$"
    yield rf"\b{head}{tail}"
    if ends.before_first:
        yield f"^{head}{tail}"


def _glob_part(part: Part) -> str | None:
    if isinstance(part, tuple):
        if len(part) == 1:
            return str(part[0])
        return None if part[-1] > 9 else f"[{''.join(map(str, part))}]"
    return "*" if part == NUMBER else part


def _glob_single(body: str, ends: _Ends) -> Iterator[str]:
    tail = "" if ends.last else ".*"
    if ends.first and ends.component:
        yield body + tail
    yield ("*." if ends.component and not ends.first else "*") + body + tail


def _glob_double(head: str, body: str, ends: _Ends) -> Iterator[str]:
    tail = f".*.{body}" if ends.component else f".*{body}"
    if ends.before_first:
        yield head + tail
    yield ("*" if ends.before_first else "*.") + head + tail


REGEX = Syntax(
    dot=r"\.",
    write=_regex_part,
    single=_regex_single,
    double=_regex_double,
    finder=lambda text: re.compile(text).search,
)
"""Regular expressions, searched for anywhere in a name."""

GLOB = Syntax(
    dot=".",
    write=_glob_part,
    single=_glob_single,
    double=_glob_double,
    finder=lambda text: re.compile(translate(text)).match,
)
"""Shell patterns for the whole name, whose ``*`` crosses dots."""
