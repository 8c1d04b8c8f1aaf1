"""Printed tables: rows of layers that agree become one, and columns are aligned.

``h.{0-11}.ln_1.weight`` stands for twelve rows. Nothing that differs is left out: rows merge
only where their ``key``, every cell that is shown, is the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        name: The parameter, or the parameters, that it is about.
        key: The cells that must agree for rows to merge.
        reason: Why they are what they are; may name the layer, and then names them all.
        count: How many rows were merged into this one.
        members: The names of the rows that were merged; empty for a row by itself.
    """

    name: str
    key: tuple[str, ...] = ()
    reason: str = ""
    count: int = 1
    members: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all rows that it stands for."""
        return self.members or (self.name,)


def collapse(names: Iterable[str]) -> list[str]:
    """Return names with runs of layer numbers in braces.

    >>> collapse(["a.0.w", "a.1.w", "a.2.w", "b.w"])
    ['a.{0-2}.w x3', 'b.w']
    """
    rows = merge_layers([Row(name=name) for name in names])
    return [f"{row.name} x{row.count}" if row.count > 1 else row.name for row in rows]


def merge_layers(rows: Sequence[Row]) -> list[Row]:
    """Merge rows that differ in one number of their names only, innermost numbers first."""
    merged = list(rows)
    depth = max((row.name.count(".") + 1 for row in rows), default=0)
    for position in range(1, depth + 1):
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in merged:
            parts = row.name.split(".")
            if len(parts) >= position and parts[-position].isdecimal():
                parts[-position] = "#"
                same: tuple[object, ...] = (
                    "#",
                    *parts,
                    row.key,
                    without_numbers(row.reason),
                    row.count,
                )
            else:
                same = (row.name,)
            groups.setdefault(same, []).append(row)
        merged = [_join(group, position) for group in groups.values()]
    return merged


def without_numbers(text: str) -> str:
    """Return a text that is the same for every layer: ``h.3.ln`` becomes ``h.#.ln``."""
    return re.sub(r"\d+", "#", text)


def _join(group: Sequence[Row], position: int) -> Row:
    if len(group) == 1:
        return group[0]
    parts = group[0].name.split(".")
    parts[-position] = ranges(int(row.name.split(".")[-position]) for row in group)
    reason = with_ranges([row.reason for row in group])
    return replace(
        group[0],
        name=".".join(parts),
        reason=reason,
        count=sum(row.count for row in group),
        members=tuple(name for row in group for name in row.names),
    )


def with_ranges(texts: Sequence[str]) -> str:
    """Return one text for several that differ in numbers only, each written as its range.

    >>> with_ranges(["ends the branch of h.0", "ends the branch of h.1"])
    'ends the branch of h.{0-1}'
    """
    split = [re.split(r"(\d+)", text) for text in texts]
    out = []
    for i, variants in enumerate(zip(*split, strict=True)):
        differs = i % 2 == 1 and len(set(variants)) > 1
        out.append(ranges(map(int, variants)) if differs else variants[0])
    return "".join(out)


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in braces, as runs or with a step.

    >>> ranges([0, 1, 2, 3, 7]), ranges([0, 2, 4, 6])
    ('{0-3,7}', '{0-6:2}')
    """
    values = sorted(set(numbers))
    steps = {b - a for a, b in itertools.pairwise(values)}
    if len(values) > 2 and len(steps) == 1 and steps != {1}:
        return f"{{{values[0]}-{values[-1]}:{steps.pop()}}}"
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return "{" + ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs) + "}"


def align(head: Sequence[str], lines: Sequence[Sequence[str]], right: set[str]) -> str:
    """Return lines below a header, columns two spaces apart, those in ``right`` flush right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    out = []
    for line in [head, *lines]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ]
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)
