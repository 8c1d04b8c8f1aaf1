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
branch starts. The further conditions of the rule (attention scores, losses, sums inside a branch,
skips through a norm or a projection, outer skips) are measured in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from gamma_nlp.check.probe.losses import Losses
from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.tape import Key, Ref, Step


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A residual addition: the step that adds, its operands, and the start of its branch.

    ``identity`` says whether its skip is free of weights and norms.
    """

    step: int
    skip: Ref
    branch: Ref
    start: Key
    identity: bool = True


def additions(signals: Signals) -> tuple[list[Sum], list[int]]:
    """Return the residual additions in the order in which they run, and the mute sums.

    A mute sum may be a residual addition, but nothing moves its other side, for example because the
    branch ends in zeros. What comes before it looks like what comes after the last
    addition.
    """
    return _Finder(signals).find()


class _Finder:
    def __init__(self, signals: Signals) -> None:
        self.signals, self.losses = signals, Losses(signals)
        self.skips, self.unmoved = _identities(signals)
        self._alone: dict[int, list[Sum]] = {}
        self._around: dict[tuple[int, Key, Key], bool] = {}

    def find(self) -> tuple[list[Sum], list[int]]:
        counted: list[Sum] = []
        mute: list[int] = []
        within: list[Sum] = []  # those that swallow what is inside them
        for index in sorted(self.signals.facts.sums, reverse=True):  # outer ones first
            around = [outer for outer in within if self._inside(index, outer)]
            found = self.skips.get(index, []) if around else self.alone(index)
            if around and not self._settled(index):
                found = [s for s in found if not self.losses.made_by(s.step, s.skip, s.start)]
            elif around:
                found = []
            if found and all(self._spans(found[0], outer) for outer in around):
                counted += found[::-1]
                within += [] if self._holds_a_trunk(found[0]) else found[:1]
            elif not found and (mute_sum := self.unmoved.get(index)) and not self._settled(index):
                step = self.signals.tape.steps[index]
                if all(self._spans(mute_sum, outer) for outer in around):
                    mute += [index] if _matters(self.signals, step) else []
        return counted[::-1], mute[::-1]

    def alone(self, index: int) -> list[Sum]:
        """Return the additions that a sum is as far as nothing is around it.

        A sum of several signals is one for each of its branches.
        """
        if index not in self._alone:
            self._alone[index] = []
            if not self._settled(index):
                step = self.signals.tape.steps[index]
                found = (
                    self.skips.get(index)
                    or _norm_shortcut(self.signals, step)
                    or _projection(self.signals, step)
                )
                made_by = self.losses.made_by
                self._alone[index] = [s for s in found if not made_by(s.step, s.skip, s.start)]
        return self._alone[index]

    def _settled(self, index: int) -> bool:
        """Return whether a sum makes attention scores or a loss, whatever its operands are."""
        step = self.signals.tape.steps[index]
        return _is_score(self.signals, step) or self.losses.settled(step)

    def _inside(self, index: int, outer: Sum) -> bool:
        """Return whether a sum is part of the branch of an addition."""
        signals = self.signals
        total = signals.tape.steps[index].writes[0]
        place = (index, outer.start, outer.branch.key)
        if place not in self._around:
            self._around[place] = (
                total.key != outer.start
                and signals.made(outer.start) < index < outer.step
                and signals.reaches("all", total, outer.branch)
                and signals.reaches("all", signals.window(outer.start), total)
            )
        return self._around[place]

    def _spans(self, inner: Sum, outer: Sum) -> bool:
        """Return whether the skip of a sum runs through the outer branch without a weight."""
        signals = self.signals
        total = signals.tape.steps[inner.step].writes[0]
        return (
            inner.identity
            and signals.reaches("weightless", signals.window(outer.start), inner.skip)
            and signals.reaches("weightless", total, outer.branch)
        )

    def _holds_a_trunk(self, outer: Sum) -> bool:
        """Return whether two additions follow each other in a branch: a network of its own.

        No weight lies between them: a skip in a key and one after the attention make none.
        Neither the skips of a trunk nor what lies between its sums is gated, nor its sums at once:
        a recurrent cell, which gates its state, makes none.
        """
        signals = self.signals
        inner = [i for i in signals.facts.sums if signals.made(outer.start) < i < outer.step]
        firsts: list[Ref] = []
        for index in sorted(inner):
            if not self._inside(index, outer):
                continue
            for found in self.alone(index)[:1]:
                start = signals.window(found.start)
                total = signals.tape.steps[index].writes[0]
                if not signals.reaches("straight", start, found.skip):
                    continue
                if not self._leads_on(total, outer.branch):
                    continue
                if any(
                    signals.reaches("ungated", first, start)
                    and signals.reaches("weightless", first, start)
                    for first in firsts
                ):
                    return True
                firsts.append(total)
        return False

    def _leads_on(self, total: Ref, end: Ref) -> bool:
        """Return whether a value comes to a weight, or to the end of a branch, without a gate."""
        signals = self.signals
        if signals.reaches("ungated", total, end):
            return True
        play = signals.noise_from("ungated", total, signals.made(end.key))
        reads = [ref for i in signals.facts.weights for ref in signals.tape.steps[i].reads]
        return any(ref.key == total.key or signals.moves(play, ref) for ref in reads)


def _identities(signals: Signals) -> tuple[dict[int, list[Sum]], dict[int, Sum]]:
    """Return for each sum the latest value that reaches one operand freely and not another.

    Second, the same for sums whose other operand is made of that value but does not move.
    """
    found: dict[int, list[Sum]] = {}
    unmoved: dict[int, Sum] = {}
    for start in signals.forks:
        free = signals.noise_from("free", start, signals.last)
        for index in signals.facts.sums:
            if index in found or index <= signals.made(start.key):
                continue
            operands = signals.operands(signals.tape.steps[index])
            moved = [start.key == ref.key or signals.moves(free, ref) for ref in operands]
            if all(moved) or not any(moved):
                continue
            skip = operands[moved.index(True)]
            for branch in (ref for ref, moves in zip(operands, moved, strict=True) if not moves):
                candidate = Sum(step=index, skip=skip, branch=branch, start=start.key)
                if signals.reaches("all", start, branch):
                    found.setdefault(index, []).append(candidate)
                elif start.key in signals.sources(branch.key):
                    unmoved.setdefault(index, candidate)
    return found, unmoved


def _matters(signals: Signals, step: Step) -> bool:
    """Return whether a sum moves an output; the last state of a recurrence may not."""
    total = step.writes[0]
    play = signals.tape.play({total.key: signals.noise(total)}, renew=signals.renew)
    return any(signals.moves(play, ref) for ref in signals.tape.outputs)


def _is_score(signals: Signals, step: Step) -> bool:
    """Return whether a sum enters a softmax before any weight."""
    total = step.writes[0]
    return any(
        signals.reaches("score", total, ref)
        for ref in signals.facts.scores
        if signals.made(ref.key) >= step.index
    )


# Skips that are not free ------------------------------------------------------------------------


def _norm_shortcut(signals: Signals, step: Step) -> list[Sum]:
    """Return the addition of a skip through norms and a branch through weights.

    It starts behind all that both operands carry past the weights.
    """
    operands = signals.operands(step)
    for start in signals.forks:
        if signals.made(start.key) >= step.index:
            continue
        carried = [signals.reaches("weightless", start, ref) for ref in operands]
        if all(carried):
            return []
        if not any(carried):
            continue
        skip = operands[carried.index(True)]
        found = [
            Sum(step=step.index, skip=skip, branch=ref, start=start.key, identity=False)
            for ref, carries in zip(operands, carried, strict=True)
            if not carries and signals.reaches("all", start, ref)
        ]
        if found:
            return found
    return []


def _projection(signals: Signals, step: Step) -> list[Sum]:
    """Return the addition of a skip through one weight and a branch that bends between two."""
    operands = signals.operands(step)
    nearest = [signals.nearest_weights(ref) for ref in operands]
    pairs = [(i, j) for i, j in permutations(range(len(operands)), 2) if nearest[i] - nearest[j]]
    # A weight next to both operands is the one weight on a path to the branch, too.
    one_away: set[Key] = set()
    for index in {index for i, j in pairs for index in nearest[i] - nearest[j]}:
        for ref in signals.tape.steps[index].reads:
            one_away |= signals.before("weightless", ref.key)
    for start in signals.forks if pairs else ():
        if start.key not in one_away or signals.made(start.key) >= step.index:
            continue
        # Most values are too far from the skip, or too near the branch: that is cheap to see.
        first = signals.first_weights(start)
        for i, j in pairs:
            if not first & nearest[i] or first & nearest[j]:
                continue
            if any(signals.reaches("weightless", start, operands[k]) for k in (i, j)):
                continue
            paths = signals.paths(start)
            fits = paths.cross_one_weight(nearest[i]) and paths.bend_between_weights(nearest[j])
            if fits and all(signals.reaches("all", start, ref) for ref in operands):
                skip, branch = operands[i], operands[j]
                return [
                    Sum(step=step.index, skip=skip, branch=branch, start=start.key, identity=False)
                ]
    return []
