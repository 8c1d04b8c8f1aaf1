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
        self._plays: dict[tuple[str, Key], tuple[int, Play]] = {}
        self._holds = {
            "free": facts.weights | facts.norms,
            "weightless": facts.weights,
            "score": facts.weights | facts.norms | facts.contractions,
            "all": set[int](),
        }

    def moves(self, play: Play, ref: Ref) -> bool:
        return play.moved(ref) > self.tolerance

    def from_(self, how: str, ref: Ref, until: int) -> Play:
        """Noise on the block behind ``ref``, played up to a step.

        ``free``: held by weights and norms; ``weightless``: by weights; ``score``: by these and
        by attention; ``all``: by nothing.
        """
        last, known = self._plays.get((how, ref.key), (-1, None))
        if known is None or last < until:
            if how != "all" or known is not None:
                until = len(self.tape.steps)  # short, or asked for again and again
            noise = {ref.key: shaken(self.tape, ref)}
            known = self.tape.play(noise, hold=self._holds[how], until=until)
            self._plays[how, ref.key] = until, known
        return known

    def reaches(self, how: str, start: Ref, end: Ref) -> bool:
        return start.key == end.key or self.moves(self.from_(how, start, self.made(end.key)), end)

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
    last = max(signals.facts.sums, default=-1)
    for start in signals.forks:
        free = signals.from_("free", start, last)
        for index in signals.facts.sums:
            if index in found or index <= signals.made(start.key):
                continue
            one, two = signals.operands(signals.tape.steps[index])
            carried = [start.key == ref.key or signals.moves(free, ref) for ref in (one, two)]
            if carried[0] == carried[1]:
                continue
            skip, branch = (one, two) if carried[0] else (two, one)
            if signals.reaches("all", start, branch):
                found[index] = Sum(step=index, skip=skip, branch=branch, start=start.key)
    return found


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
        for skip, branch in (operands, operands[::-1]):
            if _Ways(signals, start, skip).cross_one() and _Ways(signals, start, branch).bend():
                return Sum(step=step.index, skip=skip, branch=branch, start=start.key)
    return None


class _Ways:
    """From a value to an operand: what moves it through one weight, and through any number."""

    def __init__(self, signals: Signals, start: Ref, end: Ref) -> None:
        self.signals, self.start, self.end = signals, start, end
        self.tape, self.weights = signals.tape, signals.facts.weights
        self.until = signals.made(end.key)
        near = signals.from_("weightless", start, self.until)
        self.first = {
            index
            for index in self.weights
            if any(near.moved(ref) or ref.key == start.key for ref in self.tape.steps[index].reads)
        }
        noise = {start.key: shaken(self.tape, start)}
        self.one = self.tape.play(noise, hold=self.weights - self.first, until=self.until)

    def cross_one(self) -> bool:
        """Every way goes through exactly one weight."""
        if self.signals.reaches("weightless", self.start, self.end):
            return False
        every = self.signals.from_("all", self.start, self.until)
        difference = (self.one.value(self.end) - every.value(self.end)).abs().max()
        size = self.tape.value(self.end).abs().max()
        return self.signals.moves(self.one, self.end) and bool(
            difference <= self.signals.tolerance * size
        )

    def bend(self) -> bool:
        """Every way goes through two weights or more, with a nonlinearity before the last."""
        signals, tape = self.signals, self.tape
        if signals.reaches("weightless", self.start, self.end):
            return False
        if signals.moves(self.one, self.end):
            return False
        plays = [self._after_first(factor) for factor in (1.0, 2.0)]
        last = [
            ref
            for index in self.weights - self.first
            if index <= self.until
            and signals.reaches("weightless", tape.steps[index].writes[0], self.end)
            for ref in tape.steps[index].reads
            if ref.key in plays[0].live
        ]
        return bool(last) and not any(self._straight(ref, plays) for ref in last)

    def _after_first(self, factor: float) -> Play:
        """The changes that the first weights make, multiplied; norms hand on changes as they are.

        A norm is no nonlinearity of this rule.
        """
        changed = self.signals.from_("all", self.start, self.until)
        values = {}
        for index in self.first:
            out = self.tape.steps[index].writes[0]
            before, after = flat(self.tape, out), flat(self.tape, out, changed)
            values[out.key] = (before + factor * (after - before)).untyped_storage()
        facts = self.signals.facts
        return self.tape.play(values, hold=self.first, straight=facts.norms, until=self.until)

    def _straight(self, ref: Ref, plays: list[Play]) -> bool:
        base = self.tape.value(ref)
        one, two = (play.value(ref) - base for play in plays)
        return float((two - 2 * one).abs().max()) <= 1e-6 * float(two.abs().max())
