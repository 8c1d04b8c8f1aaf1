"""Verdicts in plain words."""

from __future__ import annotations

import math

from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.power import MOST_SEEDS

MINUS = "\N{MINUS SIGN}"

_PLURALS = ("points", "nats", "units")
"""Units of this package; those of a user's own may be no plurals."""


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
    digits = decimals(found)
    difference = amount(_number(found.difference, digits, "+"), unit)
    least = "" if margin is None else amount(f"{margin:g}", unit)
    holm = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    if math.isnan(found.low):
        return _without_interval(found, difference, holm)
    if found.low == found.high == 0:
        return _equal(found)
    ends = f"{_number(found.low, digits)} to {_number(found.high, digits)}"
    over = count(found.seeds, "seed")
    over += f", {count(found.items, 'item')}" if found.items else ", no items"
    interval = f"{100 * level:.4g} % interval {ends}; {over}"
    if found.verdict in (Verdict.BETTER, Verdict.WORSE):
        text = f"{found.arm} is {found.verdict} than {found.baseline}: {difference}"
        text += f" ({interval}; {_p(found.p_holm)}{holm})"
        if margin is not None and found.p_equivalence_holm < 1 - level:
            text += f", yet by less than {least}, the smallest difference that matters"
        return text
    if found.verdict is Verdict.NO_DIFFERENCE:
        text = f"no difference of {found.arm} from {found.baseline} larger than {least}: "
        text += f"{difference} ({interval}; equivalence {_p(found.p_equivalence_holm)}{holm})"
        if margin is not None and max(-found.low, found.high) > margin:
            text += f"; each end is tested by itself at {100 * (1 - level):.2g} %, so the interval "
            text += f"may reach beyond {least}"
        return text
    text = f"{_undecided(found, difference)}, which may be chance ({interval})"
    if found.low > 0 or found.high < 0:
        text += f"; by itself it would be a difference, but one of {comparisons} may look so by "
        text += "chance (Holm)"
    return f"{text}; {_remedy(found, margin)}"


def amount(number: str, unit: str) -> str:
    """Return a number with its unit: 1 point, 0.5 points; a unit of the user's stays as it is.

    >>> amount("1", "points"), amount("1.00", "points"), amount("1", "BLEU"), amount("1", "")
    ('1 point', '1.00 points', '1 BLEU', '1')
    """
    if number == "1" and unit in _PLURALS:
        unit = unit.removesuffix("s")
    return f"{number} {unit}".rstrip()


def decimals(found: Comparison) -> int:
    """Return how many decimals tell the interval's width to two digits; at least two."""
    width = found.high - found.low
    size = width if width > 0 else abs(found.difference)
    if not size > 0:
        return 2
    return min(8, max(2, 1 - math.floor(math.log10(size))))


def _without_interval(found: Comparison, difference: str, holm: str) -> str:
    more = count(found.more_seeds or 1, "more seed")
    if found.seeds < 2:
        return (
            f"{_undecided(found, f'{difference} in the one seed')}, and one seed cannot tell a "
            f"difference from chance; run at least {more}"
        )
    same = f"{difference} in all {found.seeds} seeds"
    if found.verdict is Verdict.NO_DIFFERENCE:
        return f"no difference of {found.arm} from {found.baseline} that matters: {same}"
    if found.verdict is Verdict.UNDECIDED:
        return (
            f"{_undecided(found, same)}, too few to rule out chance; {more} would decide if it "
            "stays so"
        )
    return (
        f"{found.arm} is {found.verdict} than {found.baseline}: {same} "
        f"(sign-flip {_p(found.p_holm)}{holm})"
    )


def _undecided(found: Comparison, difference: str) -> str:
    return f"undecided: {found.arm} came out at {difference} against {found.baseline}"


def _equal(found: Comparison) -> str:
    seeds = count(found.seeds, "seed")
    if found.verdict is Verdict.NO_DIFFERENCE:
        return f"no difference of {found.arm} from {found.baseline}: equal in all {seeds}"
    return (
        f"undecided: {found.arm} equals {found.baseline} in all {seeds}; to call that no "
        "difference, name the smallest one that matters"
    )


def _remedy(found: Comparison, margin: float | None) -> str:
    if found.more_seeds is not None:
        return f"about {count(found.more_seeds, 'more seed')} would decide"
    if found.needed_items is not None:
        return (
            f"no number of seeds would decide on {count(found.items, 'item')}: about "
            f"{count(found.needed_items, 'item')} are needed, and seeds besides"
        )
    what = "0" if margin is None else "the smallest one that matters"
    return f"not even {MOST_SEEDS:,} seeds would decide: the difference is too near to {what}"


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.strip("+-")


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def count(many: int, what: str) -> str:
    """Return how many there are of something: 1 seed, 2 seeds."""
    return f"{many:,} {what}" + ("" if many == 1 else "s")
