"""Verdicts in plain words."""

from __future__ import annotations

import numpy as np

from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.power import MOST_SEEDS


def sentence(
    found: Comparison, comparisons: int, margin: float | None, level: float, unit: str
) -> str:
    """Return the verdict in words, with the numbers it rests on."""
    unit = f" {unit}" if unit else ""
    over = f"{_count(found.seeds, 'seed')}" + (
        f", {_count(found.items, 'item')}" if found.items else "; of seeds alone"
    )
    interval = f"{100 * level:.4g} % interval {number(found.low)} to {number(found.high)}; {over}"
    holm = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    if found.verdict in (Verdict.BETTER, Verdict.WORSE):
        text = (
            f"{found.arm} is {found.verdict} than {found.baseline}: "
            f"{number(found.difference, sign=True)}{unit}"
        )
        text += f" ({interval}; {p_text(found.p_holm)}{holm})"
        if np.isnan(found.low):
            text = text.replace(interval, f"the same in all {found.seeds} seeds")
        if margin is not None and found.p_equivalence_holm < 1 - level:
            text += f", yet by less than {number(margin)}{unit}, the smallest that matters"
        return text
    if found.verdict is Verdict.NO_DIFFERENCE:
        if found.low == found.high == 0:
            return (
                f"no difference of {found.arm} from {found.baseline}: "
                f"equal in all {_count(found.seeds, 'seed')}"
            )
        return (
            f"no difference of {found.arm} from {found.baseline} larger than "
            f"{number(found.bound)}{unit}: {number(found.difference, sign=True)}{unit} "
            f"({interval}; equivalence {p_text(found.p_equivalence_holm)}{holm})"
        )
    start = (
        f"undecided: {found.arm} differs from {found.baseline} by "
        f"{number(found.difference, sign=True)}{unit}"
    )
    if found.seeds < 2:
        return f"{start}; one seed has no interval: run {found.more_seeds} more or further"
    if np.isnan(found.low):
        return (
            f"{start} in all {found.seeds} seeds, so their spread cannot be told; "
            f"{_count(found.more_seeds or 1, 'more seed')} would decide if it stays so"
        )
    if found.low == found.high == 0:
        return (
            f"undecided: {found.arm} equals {found.baseline} in all {_count(found.seeds, 'seed')}; "
            "name the smallest difference that matters to call that no difference"
        )
    text = f"{start} ({interval})"
    if found.low > 0 or found.high < 0:
        text += f"; the interval leaves out 0, but not{holm}"
    return f"{text}; {_remedy(found)}"


def _remedy(found: Comparison) -> str:
    if found.more_seeds is not None:
        many = "about " + _count(found.more_seeds, "more seed")
        return f"{many} would decide"
    if found.needed_items is not None:
        return (
            f"no number of seeds would decide on {_count(found.items, 'item')}: "
            f"about {_count(found.needed_items, 'item')} are needed, and seeds besides"
        )
    return f"the difference is too near to what it is tested against for {MOST_SEEDS:,} seeds"


def number(value: float, sign: bool = False) -> str:
    """Return a number with two significant digits or two decimals, whichever is finer."""
    if not np.isfinite(value):
        return "unknown"
    digits = 2 if value == 0 else max(2, 1 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:{'+' if sign else ''}.{min(digits, 8)}f}"
    return text.replace("-", "\N{MINUS SIGN}") if text.strip("+-0.") else "0"


def p_text(p: float) -> str:
    """Return a p for a reader."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _count(many: int, what: str) -> str:
    return f"{many:,} {what}" + ("" if many == 1 else "s")
