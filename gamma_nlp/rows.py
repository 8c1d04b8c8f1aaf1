"""Gain tables as text to read and as plain data for machines; both pure.

Layers that agree in everything shown share one row: ``h.{0-11}.ln_1.weight`` stands for twelve
gains. What is left out of a row is never a difference: rows merge only when category, offset,
kind, source, dtype, coefficient and dose are the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gamma_nlp.gains.table import Gain, GainTable

PLACES = {
    "branch_last": "ends a residual branch",
    "branch_inner": "feeds residual branches only, through a weight",
    "shortcut": "scales what a skip connection carries",
    "head": "no residual addition after it",
    "unused": "the forward pass never reaches it",
}
LOW_PRECISION = ("bfloat16", "float16")


def gain_table(
    table: GainTable,
    coefficients: Mapping[str, float] | None = None,
    doses: Mapping[str, float | None] | None = None,
    *,
    full: bool = False,
) -> str:
    """The table as aligned text, then a summary per category and the reasons by number.

    Args:
        table: What to print.
        coefficients: Decay coefficient by parameter name; adds a column.
        doses: Predicted pull of the planned run by parameter name, 0.1 for 10 %, ``None`` where it
            has no closed form; adds a column.
        full: One row for every gain; otherwise layers that agree share a row.
    """
    rows = [_row(gain, coefficients, doses) for gain in table]
    shown = rows if full else merge_layers(rows)
    if not shown:
        return f"{table.model or 'model'}: no gains"
    numbers: dict[str, int] = {}
    for row in shown:
        numbers.setdefault(row.reason, len(numbers) + 1)
    columns = ["gain", "n", "category", "kind", "offset", "dtype"]
    columns += ["coefficient"] if coefficients is not None else []
    columns += ["dose"] if doses is not None else []
    columns += ["source", "why"]
    cells = [[row.cells(numbers[row.reason])[c] for c in columns] for row in shown]
    parts = [f"{table.model}: {_count(len(table), 'gain')}"] if table.model else []
    parts += [align(columns, cells, right={"n", "offset", "why", "coefficient", "dose"})]
    parts += ["", summary(rows, columns)]
    parts += ["", "why", *(f"  {number}  {reason}" for reason, number in numbers.items())]
    return "\n".join(parts)


def gain_table_json(
    table: GainTable,
    coefficients: Mapping[str, float] | None = None,
    doses: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """The table as plain data: every gain with all its fields, and the role of the other names.

    A dose of ``null`` means that there is no closed form; ``category: null`` an unused gain.
    """
    gains: list[dict[str, Any]] = []
    for gain in table:
        entry: dict[str, Any] = {
            "name": gain.name,
            "category": None if gain.category is None else gain.category.value,
            "kind": gain.kind,
            "offset": gain.offset,
            "source": gain.source,
            "reason": gain.reason,
            "dtype": gain.dtype,
            "numel": gain.numel,
        }
        if coefficients is not None:
            entry["coefficient"] = coefficients[gain.name]
        if doses is not None:
            entry["dose"] = doses[gain.name]
        gains.append(entry)
    roles = {name: role.value for name, role in table.roles.items()}
    return {"model": table.model, "gains": gains, "roles": roles}


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


def _row(
    gain: Gain,
    coefficients: Mapping[str, float] | None,
    doses: Mapping[str, float | None] | None,
) -> Row:
    coefficient = None if coefficients is None else coefficients[gain.name]
    dose = "" if doses is None else dose_text(doses[gain.name], coefficient, gain.dtype)
    key = (
        "unused" if gain.category is None else gain.category.value,
        gain.kind,
        f"{gain.offset:g}",
        gain.dtype,
        gain.source,
        "" if coefficient is None else f"{coefficient:g}",
        dose,
    )
    return Row(name=gain.name, key=key, reason=gain.reason, dtype=gain.dtype, numel=gain.numel)


def dose_text(dose: float | None, coefficient: float | None, dtype: str) -> str:
    """A dose for readers: ``9.5 %``, or why there is none."""
    if dose is None:
        return "no closed form"
    if dose == 0 and coefficient:
        return f"0 ({dtype.replace('bfloat', 'bf').replace('float', 'fp')} rounding)"
    return f"{100 * dose:.3g} %"


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


def summary(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Gains, elements, coefficients and doses per category, and what the category means."""
    head = ["category", "gains", "elements"]
    head += [name for name in ("coefficient", "dose") if name in columns]
    lines = []
    for category, place in PLACES.items():
        members = [row for row in rows if row.key[0] == category]
        if members:
            line = [category, str(len(members)), str(sum(row.numel for row in members))]
            if "coefficient" in columns:
                line.append(_distinct(row.key[5] for row in members))
            if "dose" in columns:
                line.append(_distinct(row.key[6] for row in members))
            lines.append([*line, place])
    return align([*head, "place"], lines, right=set(head[1:]))


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


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
