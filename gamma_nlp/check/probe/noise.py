"""Follow noise through a tape: past weights and norms, through one weight, through several.

Noise is renewed at each step (:mod:`gamma_nlp.check.probe.renewal`). Each experiment runs once; its
result is cached.
"""

from __future__ import annotations

from collections.abc import Container, Set
from functools import cached_property

import torch

from gamma_nlp.check.probe.blocks import window_on, with_noise
from gamma_nlp.check.probe.facts import Facts
from gamma_nlp.check.probe.renewal import Renewal
from gamma_nlp.check.probe.shapes import Shapes
from gamma_nlp.check.probe.tape import Key, Play, Ref, Step, Tape


class _Either:
    """Steps that are in one container or in the other."""

    def __init__(self, *parts: Container[int]) -> None:
        self.parts = parts

    def __contains__(self, index: object) -> bool:
        return any(index in part for part in self.parts)


class Signals:
    """Experiments with noise on one tape.

    Args:
        tape: The recorded pass.
        facts: What its steps are.
        tolerance: A relative change above this counts as a movement.
    """

    def __init__(self, tape: Tape, facts: Facts, tolerance: float) -> None:
        self.tape, self.facts, self.tolerance = tape, facts, tolerance
        self.shapes = Shapes(tape, facts)
        self.renew = Renewal(facts.picks)
        self._plays: dict[tuple[str, Key], tuple[int, Play]] = {}
        self._ancestors: dict[tuple[str, Key], set[Key]] = {}
        self._noise: dict[Key, torch.UntypedStorage] = {}
        self._paths: dict[frozenset[int], Paths] = {}
        self._first: dict[Key, set[int]] = {}
        self.last = max(facts.sums, default=-1)
        self.keep = {ref.key for ref in facts.scores}
        for index in facts.weights | facts.sums.keys():
            step = tape.steps[index]
            self.keep |= {ref.key for ref in (*step.reads, *step.writes)}
        self._holds: dict[str, Container[int]] = {
            "free": facts.weights | facts.norms,
            "weightless": facts.weights,
            "score": facts.weights | facts.norms | facts.contractions,
            "straight": _Either(self.shapes.bends, self.shapes.reductions),
            "ungated": self.shapes.gates,
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
        ``straight``    nonlinearities and reductions
        ``ungated``     products of two signals
        ``all``         nothing
        ==============  ===============================================================
        """
        last, known = self._plays.get((how, ref.key), (-1, None))
        if known is None or last < until:
            if how != "all" or known is not None:
                until = max(until, self.last)  # cheap, or it was asked for before
            noise = {ref.key: self.noise(ref)}
            known = self.play(noise, hold=self._holds[how], until=until)
            self._plays[how, ref.key] = until, known
        return known

    def play(
        self,
        noise: dict[Key, torch.UntypedStorage],
        hold: Container[int] = (),
        until: int | None = None,
    ) -> Play:
        """Play noise, renewed at each step, and keep what sums, weights and scores read."""
        return self.tape.play(noise, hold=hold, until=until, keep=self.keep, renew=self.renew)

    def noise(self, ref: Ref) -> torch.UntypedStorage:
        """Return the block behind ``ref`` with noise on it, the same at every call."""
        if ref.key not in self._noise:
            self._noise[ref.key] = with_noise(self.tape, ref)
        return self._noise[ref.key]

    def paths(self, start: Ref) -> Paths:
        """Return the paths of noise on a value once it has met its first weights.

        Values with the same first weights share them: what lies ahead is the same.
        """
        first = frozenset(self.first_weights(start))
        if first not in self._paths:
            self._paths[first] = Paths(self, first)
        return self._paths[first]

    def reaches(self, how: str, start: Ref, end: Ref) -> bool:
        """Return whether noise on one value moves another; see :meth:`noise_from` for ``how``."""
        if start.key not in self.before(how, end.key):
            return False  # nothing leads there, so that there is nothing to play
        return start.key == end.key or self.moves(
            self.noise_from(how, start, self.made(end.key)), end
        )

    def before(self, how: str, key: Key) -> set[Key]:
        """Return all that a value is made of past what is held, whether or not it moves with it."""
        if (how, key) not in self._ancestors:
            held = self._holds[how]
            found, edge = {key}, [key]
            while edge:
                maker = self.facts.maker.get(edge.pop())
                if maker is None or maker.index in held:
                    continue
                reads = [ref.key for ref in maker.reads] + [*maker.replaces]
                edge += [new for new in reads if new not in found]
                found.update(reads)
            self._ancestors[how, key] = found
        return self._ancestors[how, key]

    def nearest_weights(self, ref: Ref) -> set[int]:
        """Return the weights from which a path without a further one leads to a value."""
        return {
            index
            for index in self.facts.weights
            if index <= self.made(ref.key)
            and self.reaches("weightless", self.tape.steps[index].writes[0], ref)
        }

    def first_weights(self, start: Ref) -> set[int]:
        """Return the weights to which a path without another one leads from a value."""
        if start.key not in self._first:
            near = self.noise_from("weightless", start, self.last)
            self._first[start.key] = {
                index
                for index in self.facts.weights
                for ref in self.tape.steps[index].reads
                if near.moved(ref) or ref.key == start.key
            }
        return self._first[start.key]

    @cached_property
    def forks(self) -> list[Ref]:
        """Return a window on every active value that two steps or more read, latest first.

        Parts of a concatenation count too: its slices are these parts again.
        """
        found: dict[Key, Ref] = {}
        for step in self.tape.steps:
            for ref in step.reads:
                several = len(self.tape.readers(ref.key)) > 1 or step.name in ("cat", "stack")
                if ref.is_float and ref.key in self.facts.active and several:
                    found.setdefault(ref.key, ref)
        return sorted(found.values(), key=lambda ref: self.made(ref.key), reverse=True)

    def made(self, key: Key) -> int:
        """Return the step that made a version of a block; -1 for inputs and parameters."""
        maker = self.facts.maker.get(key)
        return -1 if maker is None else maker.index

    def operands(self, step: Step) -> tuple[Ref, ...]:
        """Return the signals that a step adds."""
        return self.facts.sums[step.index]

    def sources(self, key: Key) -> set[Key]:
        """Return all that a value is made of, whether or not it moves with it."""
        return self.before("all", key)

    def window(self, key: Key) -> Ref:
        """Return some window on a version of a block."""
        return window_on(self.tape, self.facts.maker, key)


class Paths:
    """The paths from a value to operands, by the number of weights on them.

    ::

        start ──┬── weight ──────────────────────────────┐     crosses one weight
                └── weight ── nonlinearity ── weight ────+     bends between weights
                    `first`                   `second`

    Noise on what the first weights make shows which weights next to an operand follow them. With
    the nonlinearities held, it shows which do so without one; norms are none. No play runs further
    than to the weights that are asked about: in a deep network there is much behind them.
    """

    def __init__(self, signals: Signals, first: Set[int]) -> None:
        self.signals, self.first = signals, first
        self.tape, self.weights = signals.tape, signals.facts.weights
        self._plays: dict[bool, tuple[int, Play]] = {}

    def cross_one_weight(self, nearest: Set[int]) -> bool:
        """Return whether no path crosses two weights to come to an operand.

        Args:
            nearest: The weights next to the operand, the first ones among them.
        """
        return not self._next & nearest and not self._later(nearest)

    def bend_between_weights(self, nearest: Set[int]) -> bool:
        """Return whether paths cross two weights or more, each with a nonlinearity between.

        Args:
            nearest: The weights next to the operand, none of the first among them.
        """
        return self._later(nearest) and not self._later(nearest, straight=True)

    @cached_property
    def _next(self) -> set[int]:
        """Return the weights that follow a first one directly, which is known without a play."""
        outs = [self.tape.steps[index].writes[0] for index in self.first]
        return set().union(*map(self.signals.first_weights, outs))

    def _later(self, nearest: Set[int], *, straight: bool = False) -> bool:
        """Return whether one of these weights follows a first one, ``straight`` if unbent."""
        until = max(nearest, default=-1)
        last, play = self._plays.get(straight, (-1, None))
        if play is None or last < until:
            outs = [self.tape.steps[index].writes[0] for index in self.first]
            noise = {ref.key: self.signals.noise(ref) for ref in outs}
            hold = self.signals.shapes.bends if straight else ()
            play = self.signals.play(noise, hold=hold, until=until)
            self._plays[straight] = until, play
        reads = [ref for index in nearest for ref in self.tape.steps[index].reads]
        return any(self.signals.moves(play, ref) for ref in reads)
