"""From the uses of gains that a builder wrote down to what is true of each gain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gamma_nlp.gains.category import Category

from .builder import HEAD, INNER, LAST, SHORTCUT, Use

Labels = dict[str, tuple[Category | None, int]]

# Several uses of one gain: the most cautious place.
PRECEDENCE = (SHORTCUT, HEAD, LAST, INNER)


def places(uses: Iterable[Use], names: Mapping[int, str]) -> Labels:
    """For each gain its category and its offset; ``names`` gives the name of a parameter's id."""
    labels: Labels = {}
    for use in uses:
        name = names[id(use.gain)]
        before = labels.get(name, (INNER, use.offset))[0]
        assert before is not None
        labels[name] = (min(before, use.category, key=PRECEDENCE.index), use.offset)
    return labels


def unmeasured(uses: Iterable[Use], names: Mapping[int, str], labels: Labels) -> frozenset[str]:
    """Gains at the end of a branch that something else follows or joins."""
    found = {names[id(use.gain)] for use in uses if not use.clear and use.category is LAST}
    return frozenset(name for name in found if labels[name][0] is LAST)


def queries(uses: Iterable[Use], names: Mapping[int, str], labels: Labels) -> dict[str, bool]:
    """Whether a gain is that of a query or a key of a branch; left out where its uses differ."""
    found: dict[str, set[bool]] = {}
    for use in uses:
        name = names[id(use.gain)]
        if use.category is labels[name][0]:
            found.setdefault(name, set()).add(use.query and use.category is INNER)
    return {name: True in asks for name, asks in found.items() if len(asks) == 1}
