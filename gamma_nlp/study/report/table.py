"""A table as plain cells, and the numbers in it, one form for all outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of cells; columns in ``left`` hold text, the others numbers."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    left: frozenset[str] = frozenset({"arm"})
    notes: tuple[str, ...] = ()


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Return a number with so many decimals, ``-`` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("+-")  # no -0.00


def interval(low: float, high: float, digits: int) -> str:
    """Return ``low to high``, with signs."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "-"
    return f"{number(low, digits, signed=True)} to {number(high, digits, signed=True)}"


def probability(value: float | None) -> str:
    """Return a p value with three decimals."""
    if value is None or not math.isfinite(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def capital(text: str) -> str:
    """Return a text with a capital first letter, unless its first word has one elsewhere."""
    first = text.partition(" ")[0]
    return text if any(letter.isupper() for letter in first) else text[:1].upper() + text[1:]
