"""Whether arms differ by more than the seeds of one arm do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gamma_nlp.gains.category import Category
from gamma_nlp.rows import align


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run: its final score in per cent, and the change of its gains per category, in %."""

    score: float
    gains: Mapping[str, float]


def comparison(name: str, arms: Mapping[str, Sequence[Outcome]], equal: Mapping[str, str]) -> str:
    """Return one model's arms as a table, and which differences exceed the seeds' spread."""
    first = next(iter(arms.values()))
    categories = [c.value for c in Category if c.value in first[0].gains]
    head = ["policy", "dev accuracy", *(f"{category} gains" for category in categories)]
    lines = [
        [
            " = ".join([policy, *(other for other, same in equal.items() if same == policy)]),
            _range([one.score for one in runs], ".1f"),
            *(_range([one.gains[category] for one in runs], "+.1f") for category in categories),
        ]
        for policy, runs in arms.items()
    ]
    text = [
        f"{name}: mean over {len(first)} seeds (lowest to highest), in %; of the gains the change",
        align(head, lines, right=set(head[1:])),
    ]
    base, *others = arms
    for other in others:
        scores = ([one.score for one in arms[base]], [one.score for one in arms[other]])
        text.append(f"{other} against {base}: accuracy {verdict(*scores)}")
        moved = [
            category
            for category in categories
            if differ(
                [one.gains[category] for one in arms[base]],
                [one.gains[category] for one in arms[other]],
            )
        ]
        text.append(f"  gains that differ by more than the seeds do: {', '.join(moved) or 'none'}")
    return "\n".join(text)


def verdict(one: Sequence[float], other: Sequence[float]) -> str:
    """Say by how much two arms differ, and whether that is more than their seeds do."""
    difference = sum(other) / len(other) - sum(one) / len(one)
    if differ(one, other):
        return f"{difference:+.1f} points, more than the {_spread(one, other):.1f} between seeds"
    return (
        f"{difference:+.1f} points, within the {_spread(one, other):.1f} between seeds: "
        "these runs show no difference"
    )


def differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether the means of two arms lie further apart than the runs of either."""
    return abs(sum(other) / len(other) - sum(one) / len(one)) > _spread(one, other)


def _spread(*arms: Sequence[float]) -> float:
    return max(max(arm) - min(arm) for arm in arms)


def _range(values: Sequence[float], form: str) -> str:
    mean = sum(values) / len(values)
    return f"{mean:{form}} ({min(values):{form}} to {max(values):{form}})"
