"""Which sums only make a loss: measured by where noise on their totals comes to.

A sum *ends in a loss* if noise on it, with weights, norms and attention held, comes to single
numbers alone, past a nonlinearity. Of such sums a difference that is the last sum before the
nonlinearity compares, and one whose skip comes through a nonlinearity or a reduction of its own is
a penalty. Others belong to the network, such as the last block before a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gamma_nlp.check.probe.noise import Signals
from gamma_nlp.check.probe.tape import Key, Ref, Step


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """What noise on a total meets: whether it leads on, comes to a single number, and bends."""

    elsewhere: bool
    to_total: bool
    bent: bool


class Losses:
    """Tell which sums of a tape make a loss."""

    def __init__(self, signals: Signals) -> None:
        self.signals, self.tape, self.facts = signals, signals.tape, signals.facts
        self._known: dict[int, _Ahead] = {}

    @cached_property
    def _outputs(self) -> set[Key]:
        return {ref.key for ref in self.tape.outputs}

    @cached_property
    def _has_totals(self) -> bool:
        return bool(self.signals.shapes.totals)

    def settled(self, step: Step) -> bool:
        """Return whether a sum makes a loss whatever its operands are."""
        if not self._has_totals:
            return False
        if step.writes[0].key in self.signals.shapes.totals:
            return True
        return self._is_difference(step) and self._ends(step) and not self._is_compared(step)

    def made_by(self, index: int, skip: Ref, start: Key) -> bool:
        """Return whether a sum makes a loss from a skip that is no longer the signal."""
        return (
            self._has_totals
            and self._ends(self.tape.steps[index])
            and not self.signals.reaches("straight", self.signals.window(start), skip)
        )

    def _ends(self, step: Step) -> bool:
        if step.index not in self._known:
            self._known[step.index] = self._look_ahead(step)
        ahead = self._known[step.index]
        return ahead.to_total and ahead.bent and not ahead.elsewhere

    def _look_ahead(self, step: Step) -> _Ahead:
        total = step.writes[0]
        held = self.facts.weights | self.facts.norms | self.facts.contractions
        totals, bends = self.signals.shapes.totals, self.signals.shapes.bends
        play = self.tape.play(
            {total.key: self.signals.noise(total)}, hold=held, renew=self.signals.renew
        )
        to_total = bent = False
        edge, seen = [total.key], {total.key}
        while edge:
            key = edge.pop()
            if key in self._outputs:
                return _Ahead(elsewhere=True, to_total=to_total, bent=bent)
            for index in self.tape.readers(key):
                reader = self.tape.steps[index]
                reads = any(
                    ref.key == key and (play.moved(ref) or key == total.key) for ref in reader.reads
                )
                if reads and index in held:
                    return _Ahead(elsewhere=True, to_total=to_total, bent=bent)
                made = [ref.key for ref in reader.writes if ref.key in play.live]
                bent = bent or (bool(made) and index in bends)
                to_total = to_total or any(new in totals for new in made)
                edge += [new for new in made if new not in seen | totals]
                seen.update(made)
        return _Ahead(elsewhere=False, to_total=to_total, bent=bent)

    def _is_difference(self, step: Step) -> bool:
        makers = [self.facts.maker.get(ref.key) for ref in self.facts.sums[step.index]]
        return step.name in ("sub", "rsub") or any(m and m.name == "neg" for m in makers)

    def _is_compared(self, step: Step) -> bool:
        """Return whether a further sum, or a loss of two signals, takes a sum before it bends."""
        totals, bends = self.signals.shapes.totals, self.signals.shapes.bends
        edge, seen = [step.writes[0].key], {step.writes[0].key}
        while edge:
            for index in self.tape.readers(edge.pop()):
                reader = self.tape.steps[index]
                made = [ref.key for ref in reader.writes if ref.is_float]
                signals = {ref.key for ref in reader.reads if ref.key in self.facts.active}
                if index in self.facts.sums and not totals.intersection(made):
                    return True
                if "loss" in reader.name and len(signals) > 1:
                    return True
                if index not in bends and index not in self.facts.weights | self.facts.norms:
                    edge += [key for key in made if key not in seen | totals]
                    seen.update(made)
        return False
