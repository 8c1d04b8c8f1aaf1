"""How noise on a value travels: freely, through weights, through exactly one, through several.

Each experiment is done once and kept.
"""

from __future__ import annotations

from functools import cached_property

import torch

from gamma_nlp.check.probe.facts import Facts, flat, like, shaken
from gamma_nlp.check.probe.tape import Key, Play, Ref, Step, Tape


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
        self._noise: dict[Key, torch.UntypedStorage] = {}
        self._ways: dict[Key, Ways] = {}
        self.last = max(facts.sums, default=-1)
        self.keep = {ref.key for ref in facts.scores}
        for index in facts.weights | facts.sums.keys():
            step = tape.steps[index]
            self.keep |= {ref.key for ref in (*step.reads, *step.writes)}
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
                until = max(until, self.last)  # short, or asked for again and again
            noise = {ref.key: self.noise(ref)}
            known = self.tape.play(noise, hold=self._holds[how], until=until, keep=self.keep)
            self._plays[how, ref.key] = until, known
        return known

    def noise(self, ref: Ref) -> torch.UntypedStorage:
        """The block behind ``ref`` with noise on it, the same whenever it is asked for."""
        if ref.key not in self._noise:
            self._noise[ref.key] = shaken(self.tape, ref)
        return self._noise[ref.key]

    def ways(self, start: Ref) -> Ways:
        """What noise on a value does behind one weight and behind several."""
        if start.key not in self._ways:
            self._ways[start.key] = Ways(self, start)
        return self._ways[start.key]

    def reaches(self, how: str, start: Ref, end: Ref) -> bool:
        return start.key == end.key or self.moves(self.from_(how, start, self.made(end.key)), end)

    def _twice(self, key: Key) -> bool:
        return len(self.tape.readers(key)) > 1

    @cached_property
    def forks(self) -> list[Ref]:
        """A window on every active value that two steps read, latest first."""
        found: dict[Key, Ref] = {}
        for ref in (ref for step in self.tape.steps for ref in step.reads):
            if ref.is_float and ref.key in self.facts.active and self._twice(ref.key):
                found.setdefault(ref.key, ref)
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


class Ways:
    """From a value to an operand: what moves it through one weight, and through any number."""

    def __init__(self, signals: Signals, start: Ref) -> None:
        self.signals, self.start = signals, start
        self.tape, self.weights = signals.tape, signals.facts.weights
        near = signals.from_("weightless", start, signals.last)
        self.first = {
            index
            for index in self.weights
            if any(near.moved(ref) or ref.key == start.key for ref in self.tape.steps[index].reads)
        }
        noise = {start.key: signals.noise(start)}
        self.one = self.tape.play(
            noise, hold=self.weights - self.first, until=signals.last, keep=signals.keep
        )

    def cross_one(self, end: Ref) -> bool:
        """Every way goes through exactly one weight."""
        if self.signals.reaches("weightless", self.start, end):
            return False
        if not self.signals.moves(self.one, end):
            return False
        every = self.signals.from_("all", self.start, self.signals.made(end.key))
        difference = (self.one.value(end) - every.value(end)).abs().max()
        size = self.tape.value(end).abs().max()
        return bool(difference <= self.signals.tolerance * size)

    def bend(self, end: Ref) -> bool:
        """Every way goes through two weights or more, with a nonlinearity before the last."""
        signals, tape = self.signals, self.tape
        if signals.reaches("weightless", self.start, end) or signals.moves(self.one, end):
            return False
        plays = self._after_first
        last = [
            ref
            for index in self.weights - self.first
            if index <= signals.made(end.key)
            and signals.reaches("weightless", tape.steps[index].writes[0], end)
            for ref in tape.steps[index].reads
            if ref.key in plays[0].live
        ]
        return bool(last) and not any(self._straight(ref) for ref in last)

    @cached_property
    def _after_first(self) -> list[Play]:
        """The changes that the first weights make, once and twice, and what comes of them.

        Norms hand on changes as they are: they are no nonlinearity of this rule.
        """
        changed = self.signals.from_("all", self.start, self.signals.last)
        plays = []
        for factor in (1.0, 2.0):
            values = {}
            for index in self.first:
                out = self.tape.steps[index].writes[0]
                before, after = flat(self.tape, out), flat(self.tape, out, changed)
                values[out.key] = (before + factor * (after - before)).untyped_storage()
            plays.append(
                self.tape.play(
                    values,
                    hold=self.first,
                    straight=self.signals.facts.norms,
                    until=self.signals.last,
                    keep=self.signals.keep,
                )
            )
        return plays

    def _straight(self, ref: Ref) -> bool:
        base = self.tape.value(ref)
        one, two = (play.value(ref) - base for play in self._after_first)
        return float((two - 2 * one).abs().max()) <= 1e-6 * float(two.abs().max())
