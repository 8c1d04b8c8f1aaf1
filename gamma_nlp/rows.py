"""Gain tables as text to read and as plain data for machines; both pure.

Layers that agree in everything shown share one row: ``h.{0-11}.ln_1.weight`` stands for twelve
gains. What is left out of a row is never a difference: rows merge only when category, offset,
kind, source, dtype, coefficient and dose are the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


def collapse(names: Iterable[str]) -> list[str]:
    """Names with runs of layer numbers in braces: ``a.{0-2}.w`` for a.0.w, a.1.w and a.2.w."""
    rows = [Row(name=name, key=(), reason="", dtype="", numel=0) for name in names]
    return [f"{row.name} x{row.count}" if row.count > 1 else row.name for row in merge_layers(rows)]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One printed line; ``key`` holds every cell that must agree for rows to merge."""

    name: str
    key: tuple[str, ...]
    reason: str
    dtype: str
    numel: int
    count: int = 1

    def cells(self, why: int) -> dict[str, str]:
        category, kind, offset, dtype, source, coefficient, dose = self.key
        return {
            "gain": self.name,
            "n": str(self.count),
            "category": category,
            "kind": kind,
            "offset": offset,
            "dtype": dtype,
            "source": source,
            "why": str(why),
            "coefficient": coefficient,
            "dose": dose,
        }


def merge_layers(rows: Sequence[Row]) -> list[Row]:
    """Merge rows that differ in one number of their name and agree otherwise, innermost first."""
    merged = list(rows)
    depth = max((row.name.count(".") + 1 for row in rows), default=0)
    for position in range(1, depth + 1):
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in merged:
            parts = row.name.split(".")
            if len(parts) >= position and parts[-position].isdecimal():
                parts[-position] = "#"
                same: tuple[object, ...] = ("#", *parts, row.key, _numberless(row), row.count)
            else:
                same = (row.name,)
            groups.setdefault(same, []).append(row)
        merged = [_join(group, position) for group in groups.values()]
    return merged


def _numberless(row: Row) -> str:
    """A reason may name its layer; that alone must not keep layers apart."""
    return re.sub(r"\d+", "#", row.reason)


def _join(group: Sequence[Row], position: int) -> Row:
    if len(group) == 1:
        return group[0]
    parts = group[0].name.split(".")
    parts[-position] = ranges(int(row.name.split(".")[-position]) for row in group)
    reason = _spanning([row.reason for row in group])
    return replace(
        group[0], name=".".join(parts), reason=reason, count=sum(row.count for row in group)
    )


def _spanning(reasons: Sequence[str]) -> str:
    """One reason for all, a number that differs written as its range."""
    texts = [re.split(r"(\d+)", reason) for reason in reasons]
    out = []
    for i, variants in enumerate(zip(*texts, strict=True)):
        differs = i % 2 == 1 and len(set(variants)) > 1
        out.append(ranges(map(int, variants)) if differs else variants[0])
    return "".join(out)


def ranges(numbers: Iterable[int]) -> str:
    """``{0-3,7}`` for 0, 1, 2, 3, 7; with a step of two or more, ``{0-10:2}``."""
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
    """Columns two spaces apart, those in ``right`` flush right, no trailing blanks."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    out = []
    for line in [head, *lines]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ]
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)
