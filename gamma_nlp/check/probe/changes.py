"""Change a gain where a step reads it, play the tape, and see what the change moves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gamma_nlp.check.probe.additions import Sum
from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.tape import Key, Play, Ref, Step, steering
from gamma_nlp.gains.table import Gain

TRIES = (1.0, 1.0, 4.0, 4.0, 1e2, 1e2, 1e4, 1e4)
"""How strongly to change a gain so that a choice changes, such as the experts of a router."""


class Changes:
    """Changes of the gains of one tape.

    Args:
        signals: The tape and what its steps are.
        counted: The residual additions.
        dtype: The precision of the parameters.
    """

    def __init__(self, signals: Signals, counted: list[Sum], dtype: torch.dtype) -> None:
        self.signals, self.counted, self.dtype = signals, counted, dtype
        self.tape, self.facts = signals.tape, signals.facts

    def reads(self, name: str, key: Key) -> list[tuple[Step, int]]:
        """Return where the signal meets the gain, or something made of the gain alone."""
        return [
            (step, position)
            for step in self.tape.steps
            if step.index in self.facts.active_steps
            for position, ref in enumerate(step.reads)
            if ref.key not in self.facts.active and name in self.facts.origin.get(ref.key, ())
        ]

    def factors(self, key: Key) -> Tensor:
        """Return a factor for each channel, between 0.5 and 2 and never near 1."""
        row = self.tape.whole(key, self.dtype)
        generator = torch.Generator().manual_seed(1)
        draws = torch.rand(row.shape, generator=generator).to(row)
        return torch.where(draws < 0.5, 0.5 + 0.6 * draws, 0.6 + 1.4 * draws)

    def operand(
        self, gain: Gain, key: Key, place: tuple[int, int], factors: Tensor | float
    ) -> Tensor:
        """Return the operand at a place, computed from (offset + gain) times the factors."""
        weight = self.tape.whole(key, self.dtype)
        changed = (gain.offset + weight) * factors - gain.offset
        play = self.tape.play({key: changed.untyped_storage()}, hold=self.facts.active_steps)
        return play.value(self.tape.steps[place[0]].reads[place[1]])

    def play(
        self,
        operands: dict[tuple[int, int], Tensor],
        hold: set[int],
        choices: bool = False,
        renewed: bool = True,
    ) -> Play:
        """Play a change, by default renewed at each step: so it neither fades nor cancels."""
        renew = self.signals.renew if renewed else None
        return self.tape.play(operands=operands, hold=hold, choices=choices, renew=renew)

    def moved(self, play: Play, operands: list[tuple[Sum, Ref]]) -> list[tuple[Sum, Ref, float]]:
        """Return the operands that a change moves, and how far."""
        moved = [(addition, ref, play.moved(ref)) for addition, ref in operands]
        return [found for found in moved if found[2] > self.signals.tolerance]

    def largest(self, play: Play) -> float:
        """Return the largest movement of an operand of an addition or of an output."""
        refs = [ref for addition in self.counted for ref in (addition.skip, addition.branch)]
        return max((play.moved(ref) for ref in (*refs, *self.tape.outputs)), default=0.0)

    def chosen(self, play: Play) -> Play:
        """Play what the indices and masks of a play do, and nothing else of it."""
        values = {
            ref.key: play.live[ref.key]
            for key in play.live
            for ref in self.facts.maker[key].writes
            if ref.key == key and not ref.is_float
        }
        return self.tape.play(values, choices=True)

    def reaches_norm(self, play: Play) -> bool:
        """Return whether a norm reads what a change moves."""
        return any(
            self.signals.moves(play, ref)
            for index in self.facts.norms
            for ref in self.tape.steps[index].reads
        )

    def renormalised(self, play: Play) -> bool:
        """Return whether a norm follows a weight that the gain moves."""
        values = {}
        reached = {i for i in self.facts.weights if self.tape.steps[i].writes[0].key in play.live}
        for index in reached:
            key = self.tape.steps[index].writes[0].key
            values[key] = play.live[key]
        further = self.tape.play(values, hold=reached, renew=self.signals.renew)
        return self.reaches_norm(further)

    def shifts(self, near: Play, place: tuple[int, int]) -> dict[tuple[int, int], Tensor]:
        """Return zeros for what parameters add to the signal after the gain."""
        found = {}
        for step in self.tape.steps:
            reached = step.index == place[0] or any(ref.key in near.live for ref in step.reads)
            fused = step.index in self.facts.norms and step.index == place[0]
            if not reached or not (fused or step.name in ("add", "sub")):
                continue
            for position, ref in enumerate(step.reads):
                constant = ref.key not in self.facts.active and self.facts.origin.get(ref.key)
                if constant and (step.index, position) != place:
                    found[step.index, position] = torch.zeros_like(self.tape.value(ref))
        return found

    def route(self, play: Play) -> frozenset[tuple[str, str]]:
        """Return the modules and operations that a change reaches, and those where it ends."""
        steps = [self.facts.maker[key] for key in play.live]
        steps += [self.tape.steps[i] for key in play.live for i in self.tape.readers(key)]
        return frozenset((step.module, step.name) for step in steps)

    def steers(self, play: Play) -> bool:
        """Return whether indices, masks or positions are made of what a change moves."""
        readers = [(key, self.tape.steps[i]) for key in play.live for i in self.tape.readers(key)]
        return any(
            any(not ref.is_float for ref in step.writes)
            or any(i == steering(step.name) and r.key == key for i, r in enumerate(step.reads))
            for key, step in readers
        )


def stronger(changed: dict[tuple[int, int], Tensor]) -> Iterator[dict[tuple[int, int], Tensor]]:
    """Yield stronger and stronger changes, signs included."""
    generator = torch.Generator().manual_seed(2)
    for strength in TRIES:
        yield {
            place: strength * torch.randn(old.shape, generator=generator).to(old) * old
            for place, old in changed.items()
        }
