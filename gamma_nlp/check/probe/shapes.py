"""What steps do to the shape of a signal: bend it, reduce it, gate it, or only move it.

A step bends if it is not linear in its signals, all moved together. That is measured, only where an
experiment asks, with small and large changes, so that a clamp counts however wide it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from gamma_nlp.check.probe.facts import LOOKUPS, Facts
from gamma_nlp.check.probe.tape import Key, Step, Tape

REDUCTIONS = frozenset(
    ["sum", "mean", "nansum", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm"]
)
SIZES = (1.0, 1.0, 1e4)
"""How large the changes are by which a bend is found, relative to the values."""


class _Lazy:
    """Steps that pass a test, which runs once for each step that is asked for."""

    def __init__(self, steps: list[Step], test: Callable[[Step], bool]) -> None:
        self._steps, self._test = steps, test
        self._known: dict[int, bool] = {}

    def __contains__(self, index: object) -> bool:
        assert isinstance(index, int)
        if index not in self._known:
            self._known[index] = self._test(self._steps[index])
        return self._known[index]


class Shapes:
    """Tests of the steps of one tape.

    Attributes:
        bends: Nonlinearities and contractions of two signals, but no norm.
        reductions: Steps that sum or average over elements.
        gates: Products of two signals, but no norm.
    """

    def __init__(self, tape: Tape, facts: Facts) -> None:
        self.tape, self.facts = tape, facts
        self.bends = _Lazy(tape.steps, self._bends)
        self.reductions = _Lazy(tape.steps, lambda step: step.name in REDUCTIONS)
        self.gates = _Lazy(tape.steps, self._gates)

    @cached_property
    def totals(self) -> set[Key]:
        """Return the single numbers that a reduction has made of signals."""
        found: set[Key] = set()
        for step in self.tape.steps:
            signals = [r for r in step.reads if r.is_float and r.key in self.facts.active]
            if not signals or step.index in self.facts.weights or step.name in LOOKUPS:
                continue
            reduces = any(ref.numel > 1 for ref in signals)
            if reduces or any(ref.key in found for ref in signals):
                found |= {ref.key for ref in step.writes if ref.numel == 1 and ref.is_float}
        return found

    def _gates(self, step: Step) -> bool:
        signals = {ref.key for ref in step.reads if ref.key in self.facts.active}
        norm = step.index in self.facts.norms
        return step.name in ("mul", "div") and len(signals) > 1 and not norm

    def _bends(self, step: Step) -> bool:
        facts = self.facts
        if step.index in facts.contractions or self._gates(step):
            return True
        if step.index in facts.weights | facts.norms or step.index not in facts.active_steps:
            return False
        return not self._is_linear(step)

    def _is_linear(self, step: Step) -> bool:
        places = [i for i, ref in enumerate(step.reads) if ref.is_float]
        places = [i for i in places if step.reads[i].key in self.facts.active]
        out = next((ref for ref in step.writes if ref.is_float), None)
        if out is None or step.random or not places:
            return True
        generator = torch.Generator().manual_seed(0)
        base = self.tape.value(out)
        for size in SIZES:
            one, two = ([self._change(step, i, size, generator) for i in places] for _ in "ab")
            made = []
            for changes in (one, two, [a + b for a, b in zip(one, two, strict=True)]):
                operands = {
                    (step.index, i): self.tape.value(step.reads[i]) + change
                    for i, change in zip(places, changes, strict=True)
                }
                try:
                    play = self.tape.play(operands=operands, until=step.index)
                except RuntimeError:
                    return False
                made.append(torch.where(base.isfinite(), play.value(out) - base, 0))
            off = (made[2] - made[1] - made[0]).abs().max() if base.numel() else made[0].sum()
            most = max(float(change.abs().max()) if base.numel() else 0.0 for change in made)
            if not float(off) <= 1e-5 * most:
                return False
        return True

    def _change(self, step: Step, place: int, size: float, generator: torch.Generator) -> Tensor:
        value = self.tape.value(step.reads[place])
        usual = value.abs()[value.isfinite()]
        scale = float(usual.median()) if usual.numel() else 1.0
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        return size * max(scale, 1e-3) * noise.to(value)
