"""Which sums are residual additions, found by noise.

Noise is put on a value c and played through the tape. It reaches an operand *freely* if the operand
still moves while the results of all weights and norms are held. A sum is a residual addition if
noise on some c reaches one operand, the skip, freely and the other, the branch, only through
weights or norms. The further conditions of the rule are measured likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gamma_nlp.probing.steps import Facts, flat, like, shaken
from gamma_nlp.probing.tape import Key, Play, Ref, Step, Tape


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A residual addition: the step that adds, its operands, and where its branch starts."""

    step: int
    skip: Ref
    branch: Ref
    start: Key


class Signals:
    """Noise through a tape, each experiment done once.

    Args:
        tape: The recorded pass.
        facts: What its steps are.
        tolerance: A relative change above this is a movement.
    """

    def __init__(self, tape: Tape, facts: Facts, tolerance: float) -> None:
        self.tape, self.facts, self.tolerance = tape, facts, tolerance
        self._plays: dict[tuple[str, Key], Play] = {}
        self._holds = {
            "free": facts.weights | facts.norms,
            "weightless": facts.weights,
            "all": set[int](),
        }

    def moves(self, play: Play, ref: Ref) -> bool:
        return play.moved(ref) > self.tolerance

    def from_(self, how: str, ref: Ref) -> Play:
        """Noise on the block behind ``ref``: ``free``, ``weightless`` or ``all`` of its ways."""
        known = self._plays.get((how, ref.key))
        if known is None:
            noise = {ref.key: shaken(self.tape, ref)}
            known = self._plays[how, ref.key] = self.tape.play(noise, hold=self._holds[how])
        return known

    def reaches(self, how: str, start: Ref, end: Ref) -> bool:
        return start.key == end.key or self.moves(self.from_(how, start), end)

    @cached_property
    def forks(self) -> list[Ref]:
        """A window on every active value that two steps read, latest first."""
        found: dict[Key, Ref] = {}
        for step in self.tape.steps:
            for ref in step.reads:
                if ref.is_float and ref.key in self.facts.active and ref.key not in found:
                    if len(self.tape.readers(ref.key)) > 1:
                        found[ref.key] = ref
        return sorted(found.values(), key=lambda ref: self.made(ref.key), reverse=True)

    def made(self, key: Key) -> int:
        """The step that made a version of a block; -1 for what the model was given."""
        maker = self.facts.maker.get(key)
        return -1 if maker is None else maker.index

    def operands(self, step: Step) -> tuple[Ref, Ref]:
        first, second = self.facts.sums[step.index]
        return step.reads[first], step.reads[second]

    def window(self, key: Key) -> Ref:
        """Some window on a version of a block."""
        return like(self.tape, self.facts, key)


def additions(signals: Signals) -> list[Sum]:
    """The counted residual additions, in the order in which they run."""
    tape, facts = signals.tape, signals.facts
    skips = _identities(signals)
    counted: list[Sum] = []
    for index in sorted(facts.sums, reverse=True):
        step = tape.steps[index]
        if _is_score(signals, step):
            continue
        around = [outer for outer in counted if _inside(signals, step, outer)]
        found = skips.get(index)
        if found is None and not around:
            found = _projection(signals, step)
        if found is not None and all(_spans(signals, found, outer) for outer in around):
            counted.append(found)
    return counted[::-1]


def _identities(signals: Signals) -> dict[int, Sum]:
    """For each sum, the latest value that one operand carries freely and the other does not."""
    found: dict[int, Sum] = {}
    for start in signals.forks:
        free = signals.from_("free", start)
        for index in signals.facts.sums:
            if index in found or index <= signals.made(start.key):
                continue
            one, two = signals.operands(signals.tape.steps[index])
            carried = [start.key == ref.key or signals.moves(free, ref) for ref in (one, two)]
            if carried[0] == carried[1]:
                continue
            skip, branch = (one, two) if carried[0] else (two, one)
            if signals.moves(signals.from_("all", start), branch):
                found[index] = Sum(step=index, skip=skip, branch=branch, start=start.key)
    return found


def _is_score(signals: Signals, step: Step) -> bool:
    """Whether a sum enters a softmax before any weight."""
    if not signals.facts.scores:
        return False
    total = step.writes[0]
    known = ("score", total.key)
    play = signals._plays.get(known)
    if play is None:
        hold = signals.facts.weights | signals.facts.norms
        hold = hold | signals.facts.contractions
        play = signals.tape.play({total.key: shaken(signals.tape, total)}, hold=hold)
        signals._plays[known] = play
    return any(ref.key == total.key or signals.moves(play, ref) for ref in signals.facts.scores)


def _inside(signals: Signals, step: Step, outer: Sum) -> bool:
    total = step.writes[0]
    if total.key == outer.start or signals.made(outer.start) >= step.index:
        return False
    start = signals.window(outer.start)
    return signals.moves(signals.from_("all", start), total) and signals.reaches(
        "all", total, outer.branch
    )


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
        if not all(signals.moves(signals.from_("all", start), ref) for ref in operands):
            continue
        for skip, branch in (operands, operands[::-1]):
            if _crosses_one(signals, start, skip) and _bends(signals, start, branch):
                return Sum(step=step.index, skip=skip, branch=branch, start=start.key)
    return None


def _first_weights(signals: Signals, start: Ref) -> set[int]:
    """The weights that noise on ``start`` reaches before any other weight."""
    play = signals.from_("weightless", start)
    tape = signals.tape
    return {
        index
        for index in signals.facts.weights
        if any(ref.key in play.live or ref.key == start.key for ref in tape.steps[index].reads)
    }


def _through_one(signals: Signals, start: Ref) -> Play:
    known = signals._plays.get(("one", start.key))
    if known is None:
        hold = signals.facts.weights - _first_weights(signals, start)
        noise = {start.key: shaken(signals.tape, start)}
        known = signals._plays["one", start.key] = signals.tape.play(noise, hold=hold)
    return known


def _crosses_one(signals: Signals, start: Ref, skip: Ref) -> bool:
    one, every = _through_one(signals, start), signals.from_("all", start)
    difference = (one.value(skip) - every.value(skip)).abs().max()
    size = signals.tape.value(skip).abs().max()
    return (
        not signals.reaches("weightless", start, skip)
        and signals.moves(one, skip)
        and bool(difference <= signals.tolerance * size)
    )


def _bends(signals: Signals, start: Ref, branch: Ref) -> bool:
    """Whether the branch has two weights, with a nonlinearity before the last on every path."""
    if signals.reaches("weightless", start, branch):
        return False
    if signals.moves(_through_one(signals, start), branch):
        return False
    tape, facts = signals.tape, signals.facts
    first = _first_weights(signals, start)
    changed = signals.from_("all", start)
    plays = []
    for factor in (1.0, 2.0):
        values = {}
        for index in first:
            out = tape.steps[index].writes[0]
            before, after = flat(tape, out), flat(tape, out, changed)
            values[out.key] = (before + factor * (after - before)).untyped_storage()
        plays.append(tape.play(values, hold=first, straight=facts.norms, until=signals.made(branch.key)))
    reached = False
    for index in facts.weights - first:
        if index > signals.made(branch.key):
            continue
        step = tape.steps[index]
        if not signals.reaches("weightless", step.writes[0], branch):
            continue
        for ref in step.reads:
            if ref.key not in plays[0].live:
                continue
            reached = True
            base = tape.value(ref)
            one, two = (play.value(ref) - base for play in plays)
            if float((two - 2 * one).abs().max()) <= 1e-6 * float(two.abs().max()):
                return False
    return reached
