"""Follow noise through a tape: past weights and norms, through one weight, through several.

Each experiment runs once; its result is cached.
"""

from __future__ import annotations

from functools import cached_property

import torch

from gamma_nlp.check.probe.facts import Facts, flat, window_on, with_noise
from gamma_nlp.check.probe.tape import Key, Play, Ref, Step, Tape


class Signals:
    """Experiments with noise on one tape.

    Args:
        tape: The recorded pass.
        facts: What its steps are.
        tolerance: A relative change above this counts as a movement.
    """

    def __init__(self, tape: Tape, facts: Facts, tolerance: float) -> None:
        self.tape, self.facts, self.tolerance = tape, facts, tolerance
        self._plays: dict[tuple[str, Key], tuple[int, Play]] = {}
        self._noise: dict[Key, torch.UntypedStorage] = {}
        self._paths: dict[Key, Paths] = {}
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

    def noise_from(self, how: str, ref: Ref, until: int) -> Play:
        """Put noise on the block behind ``ref`` and play up to a step.

        ==============  ===============================================================
        ``how``         held, so that noise does not get through
        ==============  ===============================================================
        ``free``        weights and norms: what is left is what a skip connection does
        ``weightless``  weights
        ``score``       weights, norms and attention
        ``all``         nothing
        ==============  ===============================================================
        """
        last, known = self._plays.get((how, ref.key), (-1, None))
        if known is None or last < until:
            if how != "all" or known is not None:
                until = max(until, self.last)  # cheap, or it was asked for before
            noise = {ref.key: self.noise(ref)}
            known = self.tape.play(noise, hold=self._holds[how], until=until, keep=self.keep)
            self._plays[how, ref.key] = until, known
        return known

    def noise(self, ref: Ref) -> torch.UntypedStorage:
        """Return the block behind ``ref`` with noise on it, the same at every call."""
        if ref.key not in self._noise:
            self._noise[ref.key] = with_noise(self.tape, ref)
        return self._noise[ref.key]

    def paths(self, start: Ref) -> Paths:
        """Return the paths that noise on a value takes through one weight and through several."""
        if start.key not in self._paths:
            self._paths[start.key] = Paths(self, start)
        return self._paths[start.key]

    def reaches(self, how: str, start: Ref, end: Ref) -> bool:
        """Return whether noise on one value moves another; see :meth:`noise_from` for ``how``."""
        return start.key == end.key or self.moves(
            self.noise_from(how, start, self.made(end.key)), end
        )

    def _twice(self, key: Key) -> bool:
        return len(self.tape.readers(key)) > 1

    @cached_property
    def forks(self) -> list[Ref]:
        """Return a window on every active value that two steps or more read, latest first."""
        found: dict[Key, Ref] = {}
        for ref in (ref for step in self.tape.steps for ref in step.reads):
            if ref.is_float and ref.key in self.facts.active and self._twice(ref.key):
                found.setdefault(ref.key, ref)
        return sorted(found.values(), key=lambda ref: self.made(ref.key), reverse=True)

    def made(self, key: Key) -> int:
        """Return the step that made a version of a block; -1 for inputs and parameters."""
        maker = self.facts.maker.get(key)
        return -1 if maker is None else maker.index

    def operands(self, step: Step) -> tuple[Ref, Ref]:
        """Return the two signals that a step adds."""
        first, second = self.facts.sums[step.index]
        return step.reads[first], step.reads[second]

    def window(self, key: Key) -> Ref:
        """Return some window on a version of a block."""
        return window_on(self.tape, self.facts, key)


class Paths:
    """The paths from a value to operands, by the number of weights on them.

    ::

        start ──┬── weight ──────────────────────────────┐     crosses one weight
                └── weight ── nonlinearity ── weight ────+     bends between weights
                    `first`                   the last before the operand
    """

    def __init__(self, signals: Signals, start: Ref) -> None:
        self.signals, self.start = signals, start
        self.tape, self.weights = signals.tape, signals.facts.weights
        near = signals.noise_from("weightless", start, signals.last)
        self.first = {
            index
            for index in self.weights
            if any(near.moved(ref) or ref.key == start.key for ref in self.tape.steps[index].reads)
        }
        noise = {start.key: signals.noise(start)}
        self.one = self.tape.play(
            noise, hold=self.weights - self.first, until=signals.last, keep=signals.keep
        )

    def cross_one_weight(self, end: Ref) -> bool:
        """Return whether every path crosses exactly one weight.

        Then nothing moves with all weights held, and the movement is the same whether or not
        weights after the first are held.
        """
        if self.signals.reaches("weightless", self.start, end):
            return False
        if not self.signals.moves(self.one, end):
            return False
        every = self.signals.noise_from("all", self.start, self.signals.made(end.key))
        difference = (self.one.value(end) - every.value(end)).abs().max()
        size = self.tape.value(end).abs().max()
        return bool(difference <= self.signals.tolerance * size)

    def bend_between_weights(self, end: Ref) -> bool:
        """Return whether every path crosses two weights or more, with a nonlinearity between."""
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
        return bool(last) and not any(self._is_linear(ref) for ref in last)

    @cached_property
    def _after_first(self) -> list[Play]:
        """Play the change that the first weights make, once as it is and once doubled.

        Where no nonlinearity follows, twice the change moves everything twice as far. Norms pass
        changes on as they are, since the rule does not count them as nonlinearities.
        """
        changed = self.signals.noise_from("all", self.start, self.signals.last)
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

    def _is_linear(self, ref: Ref) -> bool:
        base = self.tape.value(ref)
        one, two = (play.value(ref) - base for play in self._after_first)
        return float((two - 2 * one).abs().max()) <= 1e-6 * float(two.abs().max())
