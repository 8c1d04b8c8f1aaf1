"""Find the residual additions among the sums, by following noise.

Put noise on a value c that several steps read, and play the tape twice: once with the results of
all weights and norms held, once with nothing held. ::

                                        held      not held
    c ──┬─────────────────── skip       moves     moves        a residual addition
        └── norm ── weight ─ branch     is still  moves

    c ──┬── weight ───────── one        is still  moves        two branches are joined
        └── weight ───────── other      is still  moves

    c ──┬── times 2 ──────── one        moves     moves        a signal and itself
        └─────────────────── other      moves     moves

A sum is a residual addition if some c gives the first pattern; the latest such c is where its
branch starts. The further conditions of the rule (attention scores, sums inside a branch,
projection shortcuts) are measured in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.tape import Key, Ref, Step


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A residual addition: the step that adds, its operands, and the start of its branch."""

    step: int
    skip: Ref
    branch: Ref
    start: Key


def additions(signals: Signals) -> tuple[list[Sum], list[int]]:
    """Return the residual additions in the order in which they run, and the mute sums.

    A mute sum may be a residual addition, but nothing moves its other side, for example because the
    branch ends in zeros. What comes before it looks like what comes after the last
    addition.
    """
    tape, facts = signals.tape, signals.facts
    skips, unmoved = _identities(signals)
    counted: list[Sum] = []
    mute: list[int] = []
    for index in sorted(facts.sums, reverse=True):  # outer additions before those inside them
        step = tape.steps[index]
        if _is_score(signals, step):
            continue
        around = [outer for outer in counted if _inside(signals, step, outer)]
        found = skips.get(index)
        if found is None and not around:
            found = _projection(signals, step)
        candidate = found or unmoved.get(index)
        if candidate is None or not all(_spans(signals, candidate, outer) for outer in around):
            continue
        if found is not None:
            counted.append(found)
        elif _matters(signals, step):
            mute.append(index)
    return counted[::-1], mute[::-1]


def _identities(signals: Signals) -> tuple[dict[int, Sum], dict[int, Sum]]:
    """Return for each sum the latest value that reaches one operand freely and not the other.

    Second, the same for sums whose other operand is made of that value but does not move.
    """
    found: dict[int, Sum] = {}
    unmoved: dict[int, Sum] = {}
    for start in signals.forks:
        free = signals.noise_from("free", start, signals.last)
        for index in signals.facts.sums:
            if index in found or index <= signals.made(start.key):
                continue
            one, two = signals.operands(signals.tape.steps[index])
            moved = [start.key == ref.key or signals.moves(free, ref) for ref in (one, two)]
            if moved[0] == moved[1]:
                continue
            skip, branch = (one, two) if moved[0] else (two, one)
            candidate = Sum(step=index, skip=skip, branch=branch, start=start.key)
            if signals.reaches("all", start, branch):
                found[index] = candidate
            elif branch.key in signals.noise_from("all", start, signals.made(branch.key)).live:
                unmoved.setdefault(index, candidate)
    return found, unmoved


def _matters(signals: Signals, step: Step) -> bool:
    """Return whether a sum moves an output; the last state of a recurrence may not."""
    total = step.writes[0]
    play = signals.tape.play({total.key: signals.noise(total)})
    return any(signals.moves(play, ref) for ref in signals.tape.outputs)


def _is_score(signals: Signals, step: Step) -> bool:
    """Return whether a sum enters a softmax before any weight."""
    total = step.writes[0]
    return any(
        signals.reaches("score", total, ref)
        for ref in signals.facts.scores
        if signals.made(ref.key) >= step.index
    )


def _inside(signals: Signals, step: Step, outer: Sum) -> bool:
    """Return whether a sum is part of the branch of an addition."""
    total = step.writes[0]
    if total.key == outer.start or signals.made(outer.start) >= step.index:
        return False
    start = signals.window(outer.start)
    return signals.reaches("all", start, total) and signals.reaches("all", total, outer.branch)


def _spans(signals: Signals, inner: Sum, outer: Sum) -> bool:
    """Return whether the skip of a sum runs through the outer branch without a weight."""
    total = signals.tape.steps[inner.step].writes[0]
    return signals.reaches(
        "weightless", signals.window(outer.start), inner.skip
    ) and signals.reaches("weightless", total, outer.branch)


# Projection shortcuts ---------------------------------------------------------------------------


def _projection(signals: Signals, step: Step) -> Sum | None:
    """Return the addition of a skip through one weight and a branch that bends between two."""
    operands = signals.operands(step)
    for start in signals.forks:
        if signals.made(start.key) >= step.index:
            continue
        if not all(signals.reaches("all", start, ref) for ref in operands):
            continue
        paths = signals.paths(start)
        for skip, branch in (operands, operands[::-1]):
            if paths.cross_one_weight(skip) and paths.bend_between_weights(branch):
                return Sum(step=step.index, skip=skip, branch=branch, start=start.key)
    return None
