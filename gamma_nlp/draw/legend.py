"""What is written beside a picture: its colours, and then its signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from gamma_nlp.draw.shapes import BoxShape, Frame, Line, Meet, Shape, Style
from gamma_nlp.draw.stream import BoxKind
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import PLACES

Legend: TypeAlias = Sequence[tuple[Category | None, str]]
"""Texts in their order, each with the category whose colour stands before it, or with none."""


def colours(counts: Mapping[Category, int]) -> list[tuple[Category, str]]:
    """Return what to write beside the colour of each category; a count of 0 is not told."""
    return [
        (c, f"{c} ({counts[c]}): {PLACES[c.value]}" if counts[c] else f"{c}: {PLACES[c.value]}")
        for c in Category
        if c in counts
    ]


def signs(shapes: Iterable[Shape]) -> list[str]:
    """Return what the signs of a picture mean, without those that it has not."""
    attention = frames = meets = links = False
    for shape in shapes:
        match shape:
            case BoxShape():
                attention |= shape.box.kind is BoxKind.ATTENTION
            case Frame():
                frames = True
            case Meet():
                meets = True
            case Line():
                links |= shape.style is Style.LINK
    round_ends = "; with round ends: the signal with itself, as in attention"
    told = {
        "Thick line: the residual stream. Thin line: a branch, added at a plus.": True,
        f"Dot: a gain. Box: weights{round_ends if attention else ''}.": True,
        "Frame with \u00d7 n: a pattern of layers that repeats n times.": frames,
        "Small point: where ways that split meet again, as at a gate.": meets,
        "Dashed arrow: a signal that is read elsewhere, as by cross-attention.": links,
    }
    return [text for text, shown in told.items() if shown]
