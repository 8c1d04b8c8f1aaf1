"""Verdicts in plain words."""

from __future__ import annotations

import math

from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.power import MOST_SEEDS

MINUS = "\N{MINUS SIGN}"


def sentence(
    found: Comparison, comparisons: int, margin: float | None, level: float, unit: str
) -> str:
    """Return the verdict in words, with the numbers it rests on.

    Args:
        found: All but the sentence.
        comparisons: How many Holm's correction is over.
        margin: The smallest difference that matters.
        level: Of the interval.
        unit: What the scores count.
    """
    unit = f" {unit}" if unit else ""
    digits = decimals(found)
    difference = _number(found.difference, digits, "+") + unit
    holm = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    if math.isnan(found.low):
        return _without_interval(found, difference, holm)
    if found.low == found.high == 0:
        return _equal(found)
    ends = f"{_number(found.low, digits)} to {_number(found.high, digits)}"
    over = _count(found.seeds, "seed")
    over += f", {_count(found.items, 'item')}" if found.items else ", no items"
    interval = f"{100 * level:.4g} % interval {ends}; {over}"
    if found.verdict in (Verdict.BETTER, Verdict.WORSE):
        text = f"{found.arm} is {found.verdict} than {found.baseline}: {difference}"
        text += f" ({interval}; {_p(found.p_holm)}{holm})"
        if margin is not None and found.p_equivalence_holm < 1 - level:
            text += f", yet by less than the {margin:g}{unit} that matter"
        return text
    if found.verdict is Verdict.NO_DIFFERENCE:
        return (
            f"no difference of {found.arm} from {found.baseline} larger than {margin:g}{unit}: "
            f"{difference} ({interval}; equivalence {_p(found.p_equivalence_holm)}{holm})"
        )
    text = f"undecided: {found.arm} differs from {found.baseline} by {difference} ({interval})"
    if found.low > 0 or found.high < 0:
        text += f"; the interval leaves out 0, but not{holm}"
    return f"{text}; {_remedy(found)}"


def decimals(found: Comparison) -> int:
    """Return how many decimals tell the interval's width to two digits; at least two."""
    width = found.high - found.low
    size = width if width > 0 else abs(found.difference)
    if not size > 0:
        return 2
    return min(8, max(2, 1 - math.floor(math.log10(size))))


def _without_interval(found: Comparison, difference: str, holm: str) -> str:
    more = _count(found.more_seeds or 1, "more seed")
    if found.seeds < 2:
        return (
            f"undecided: {found.arm} differs from {found.baseline} by {difference} in the one "
            f"seed, which gives no interval; run at least {more}"
        )
    same = f"{difference} in all {found.seeds} seeds"
    if found.verdict is Verdict.NO_DIFFERENCE:
        return f"no difference of {found.arm} from {found.baseline} that matters: {same}"
    if found.verdict is Verdict.UNDECIDED:
        return (
            f"undecided: {found.arm} differs from {found.baseline} by {same}, so there is no "
            f"spread to judge by; {more} would decide if it stays so"
        )
    return (
        f"{found.arm} is {found.verdict} than {found.baseline}: {same} "
        f"(sign-flip {_p(found.p_holm)}{holm})"
    )


def _equal(found: Comparison) -> str:
    seeds = _count(found.seeds, "seed")
    if found.verdict is Verdict.NO_DIFFERENCE:
        return f"no difference of {found.arm} from {found.baseline}: equal in all {seeds}"
    return (
        f"undecided: {found.arm} equals {found.baseline} in all {seeds}; to call that no "
        "difference, name the smallest one that matters"
    )


def _remedy(found: Comparison) -> str:
    if found.more_seeds is not None:
        return f"about {_count(found.more_seeds, 'more seed')} would decide"
    if found.needed_items is not None:
        return (
            f"no number of seeds would decide on {_count(found.items, 'item')}: about "
            f"{_count(found.needed_items, 'item')} are needed, and seeds besides"
        )
    return f"the difference is too near to what it is tested against for {MOST_SEEDS:,} seeds"


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.strip("+-")


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _count(many: int, what: str) -> str:
    return f"{many:,} {what}" + ("" if many == 1 else "s")
