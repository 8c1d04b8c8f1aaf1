"""What makes a score mean less than it seems: each doubt about two files in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gamma_nlp.tasks.translation.score_files import Pairs
from gamma_nlp.tasks.translation.scores import UNKNOWNS

SIDES = ("hypotheses", "references")


def doubts(pairs: Pairs, *, lowercase: bool = False) -> list[str]:
    """Return what a user should know before believing a score.

    Args:
        pairs: Words, as they will be scored.
        lowercase: Whether the scores ignore case.
    """
    found = [*_same(pairs), *_lines(pairs, "are empty", lambda line: not line.strip())]
    found += [
        f"{text}: each counts as one word that nothing matches; a true score needs the text as it "
        "was before the vocabulary"
        for text in _lines(
            pairs, "hold an unknown word", lambda line: UNKNOWNS.search(line) is not None
        )
    ]
    return found if lowercase else [*found, *_case(pairs)]


def _same(pairs: Pairs) -> list[str]:
    """Whether both sides are one text, one text in two orders, or have nothing in common."""
    hypotheses, references = pairs.hypotheses, pairs.references
    if hypotheses == references:
        return ["hypotheses and references are the same text, so every score is perfect"]
    if Counter(hypotheses) == Counter(references):
        return ["hypotheses and references hold the same lines in another order"]
    one, other = ({word for line in lines for word in line.split()} for lines in pairs.sides)
    if not one & other:
        return ["no word is in both files: are they in one language, and tokenised alike?"]
    return []


def _lines(pairs: Pairs, what: str, test: Callable[[str], bool]) -> list[str]:
    """Count the lines of each side that pass a test, and name the first."""
    found = []
    for side, (name, lines) in enumerate(zip(SIDES, pairs.sides, strict=True)):
        places = [index for index, line in enumerate(lines) if test(line)]
        if places:
            found.append(
                f"{len(places)} of {len(lines)} {name} {what} (first: {pairs.at(side, places[0])})"
            )
    return found


def _case(pairs: Pairs) -> list[str]:
    """Whether one side has capitals and the other none, or one has nothing but capitals."""
    for test, what in ((str.isupper, "capital"), (str.islower, "small")):
        one, other = (_share(lines, test) for lines in pairs.sides)
        if min(one, other) < 0.02 and max(one, other) > 0.2:
            without = SIDES[0] if one < other else SIDES[1]
            return [f"{without} have no {what} letters and the others do: is --lowercase missing?"]
    return []


def _share(lines: Sequence[str], test: Callable[[str], bool]) -> float:
    filled = [line for line in lines if line.strip()]
    return sum(any(map(test, line)) for line in filled) / max(1, len(filled))
