"""Which sums are residual additions, found by noise.

Noise is put on a value c and played through the tape. It reaches an operand *freely* if the operand
still moves while the results of all weights and norms are held. A sum is a residual addition if
noise on some c reaches one operand, the skip, freely and the other, the branch, only through
weights or norms. The further conditions of the rule are measured likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.tape import Key, Ref, Step


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A residual addition: the step that adds, its operands, and where its branch starts."""

    step: int
    skip: Ref
    branch: Ref
    start: Key


def additions(signals: Signals) -> tuple[list[Sum], list[int]]:
    """The counted residual additions in the order in which they run, and the mute sums.

    A mute sum may be one, but nothing moves its other side: its branch ends in zeros, say. So
    what comes before it cannot be told from what comes after the last addition.
    """
    tape, facts = signals.tape, signals.facts
    skips, silent = _identities(signals)
    counted: list[Sum] = []
    mute: list[int] = []
    for index in sorted(facts.sums, reverse=True):
        step = tape.steps[index]
        if _is_score(signals, step):
            continue
        around = [outer for outer in counted if _inside(signals, step, outer)]
        found = skips.get(index)
        if found is None and not around:
            found = _projection(signals, step)
        candidate = found or silent.get(index)
        if candidate is None or not all(_spans(signals, candidate, outer) for outer in around):
            continue
        if found is not None:
            counted.append(found)
        elif _matters(signals, step):
            mute.append(index)
    return counted[::-1], mute[::-1]


def _identities(signals: Signals) -> tuple[dict[int, Sum], dict[int, Sum]]:
    """For each sum, the latest value that one operand carries freely and the other does not.

    Second, the same for sums whose other operand is made of that value and does not move.
    """
    found: dict[int, Sum] = {}
    silent: dict[int, Sum] = {}
    for start in signals.forks:
        free = signals.from_("free", start, signals.last)
        for index in signals.facts.sums:
            if index in found or index <= signals.made(start.key):
                continue
            one, two = signals.operands(signals.tape.steps[index])
            carried = [start.key == ref.key or signals.moves(free, ref) for ref in (one, two)]
            if carried[0] == carried[1]:
                continue
            skip, branch = (one, two) if carried[0] else (two, one)
            candidate = Sum(step=index, skip=skip, branch=branch, start=start.key)
            if signals.reaches("all", start, branch):
                found[index] = candidate
            elif branch.key in signals.from_("all", start, signals.made(branch.key)).live:
                silent.setdefault(index, candidate)
    return found, silent


def _matters(signals: Signals, step: Step) -> bool:
    """Whether an output is made of a sum; the last state of a recurrence is dropped, say."""
    total = step.writes[0]
    play = signals.tape.play({total.key: signals.noise(total)})
    return any(signals.moves(play, ref) for ref in signals.tape.outputs)


def _is_score(signals: Signals, step: Step) -> bool:
    """Whether a sum enters a softmax before any weight."""
    total = step.writes[0]
    return any(
        signals.reaches("score", total, ref)
        for ref in signals.facts.scores
        if signals.made(ref.key) >= step.index
    )


def _inside(signals: Signals, step: Step, outer: Sum) -> bool:
    total = step.writes[0]
    if total.key == outer.start or signals.made(outer.start) >= step.index:
        return False
    start = signals.window(outer.start)
    return signals.reaches("all", start, total) and signals.reaches("all", total, outer.branch)


def _spans(signals: Signals, inner: Sum, outer: Sum) -> bool:
    total = signals.tape.steps[inner.step].writes[0]
    return signals.reaches(
        "weightless", signals.window(outer.start), inner.skip
    ) and signals.reaches("weightless", total, outer.branch)


# Projection shortcuts ---------------------------------------------------------------------------


def _projection(signals: Signals, step: Step) -> Sum | None:
    """A skip through exactly one weight beside a branch bent between two weights."""
    operands = signals.operands(step)
    for start in signals.forks:
        if signals.made(start.key) >= step.index:
            continue
        if not all(signals.reaches("all", start, ref) for ref in operands):
            continue
        ways = signals.ways(start)
        for skip, branch in (operands, operands[::-1]):
            if ways.cross_one(skip) and ways.bend(branch):
                return Sum(step=step.index, skip=skip, branch=branch, start=start.key)
    return None
