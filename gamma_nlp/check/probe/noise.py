"""Follow noise through a tape: past weights and norms, through one weight, through several.

Noise is renewed at each step (:mod:`gamma_nlp.check.probe.renewal`). Each experiment runs once; its
result is cached.
"""

from __future__ import annotations

from collections.abc import Container
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
        self._paths: dict[Key, Paths] = {}
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
        """Return the paths that noise on a value takes through one weight and through several."""
        if start.key not in self._paths:
            self._paths[start.key] = Paths(self, start)
        return self._paths[start.key]

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

    Noise on what the first weights make, with all weights held, shows which operands are one weight
    away, and noise on what later weights make, which are two or more. With the nonlinearities held
    instead, it shows which weights follow another without one; norms are none.
    """

    def __init__(self, signals: Signals, start: Ref) -> None:
        self.signals, self.start = signals, start
        self.tape, self.weights = signals.tape, signals.facts.weights
        self.first = signals.first_weights(start)

    @cached_property
    def one(self) -> Play:
        return self._from(self.first, self.weights)

    @cached_property
    def second(self) -> set[int]:
        return self._read_by(self._from(self.first, ()))

    @cached_property
    def unbent(self) -> set[int]:
        return self._read_by(self._from(self.first, self.signals.shapes.bends))

    def cross_one_weight(self, end: Ref) -> bool:
        """Return whether every path crosses exactly one weight."""
        return (
            not self.signals.reaches("weightless", self.start, end)
            and self.signals.moves(self.one, end)
            and not self._reaches(self.second, end)
        )

    def bend_between_weights(self, end: Ref) -> bool:
        """Return whether every path crosses two weights or more, with a nonlinearity between."""
        return (
            not self.signals.reaches("weightless", self.start, end)
            and not self.signals.moves(self.one, end)
            and self._reaches(self.second, end)
            and not self._reaches(self.unbent, end)
        )

    def _from(self, weights: set[int], hold: Container[int]) -> Play:
        outs = [self.tape.steps[index].writes[0] for index in weights]
        noise = {ref.key: self.signals.noise(ref) for ref in outs}
        return self.signals.play(noise, hold=hold, until=self.signals.last)

    def _read_by(self, play: Play) -> set[int]:
        """Return the weights whose operands move."""
        return {
            index
            for index in self.weights
            if any(self.signals.moves(play, ref) for ref in self.tape.steps[index].reads)
        }

    def _reaches(self, weights: set[int], end: Ref) -> bool:
        return any(
            self.signals.reaches("weightless", self.tape.steps[index].writes[0], end)
            for index in weights
            if index <= self.signals.made(end.key)
        )
