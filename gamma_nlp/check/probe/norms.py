"""Norms that are written out, measured by what they do.

A product of a signal with a statistic of it is a norm if the output stays the same when what it
normalises grows. Two other kinds take no statistic: the batch norm of a model in eval mode, which
divides by a root of what the model holds, and a bounded function of the signal times one learned
number, which takes a gain.

::

    root ──┬───────────────────────────────── * ── out      a statistic has fewer elements than
           └─ pow ─ mean ─ + eps ─ rsqrt ─────┘             the signal that it is taken of

With the root 100, 10,000 and -10,000 times as large, a norm gives out, out and -out (the eps no
longer counts). A gate gives something else, and so does a share of a sum: it keeps its sign.
"""

from __future__ import annotations

from collections.abc import Container, Set

import torch

from gamma_nlp.check.probe.blocks import flat, window_on
from gamma_nlp.check.probe.facts import Facts
from gamma_nlp.check.probe.tape import Key, Ref, Step, Tape

BACK = 14
"""How many steps back from a product a statistic and its signal may meet."""
ROOTS = frozenset({"sqrt", "rsqrt", "pow"})


def written_out(tape: Tape, facts: Facts, vectors: Set[Key]) -> set[int]:
    """Return the steps whose results are normalised signals.

    Args:
        tape: A recorded forward pass.
        facts: What its steps are.
        vectors: The memory of vectors that the model holds, such as a batch norm's statistics.
    """
    return {
        step.index
        for step in tape.steps
        if _normalises(tape, facts, step)
        or _rescales(facts, step, vectors)
        or _squashes(tape, facts, step)
    }


def _normalises(tape: Tape, facts: Facts, step: Step) -> bool:
    """Return whether a product of a signal with a statistic of it normalises the signal."""
    if step.name not in ("mul", "div") or len(step.reads) != 2 or not step.writes[0].is_float:
        return False
    first, second = step.reads
    if first.key not in facts.active or second.key not in facts.active:
        return False
    if first.numel <= second.numel and (step.name == "div" or first.numel == second.numel):
        return False
    signal, factor = (first, second) if first.numel > second.numel else (second, first)
    # On its way to the statistic the root crosses no weight; on its way to the signal it may.
    shared = _before(facts, signal.key) & _before(facts, factor.key, stop=facts.weights)
    made = {key: facts.maker[key].index if key in facts.maker else -1 for key in shared}
    for root in sorted(shared, key=made.__getitem__, reverse=True)[:2]:
        if _invariant(tape, step, window_on(tape, facts.maker, root)):
            return True
    return False


def _rescales(facts: Facts, step: Step, vectors: Set[Key]) -> bool:
    """Return whether a signal is divided by a root of what the model holds: a batch norm."""
    if step.name not in ("mul", "div") or len(step.reads) != 2:
        return False
    constants = [ref for ref in step.reads if ref.key not in facts.active]
    if len(constants) != 1 or constants[0].numel == 1:
        return False
    for key in _behind(facts, constants[0].key):
        maker = facts.maker.get(key)
        if maker is not None and maker.name in ROOTS and _behind(facts, key) & vectors:
            return True
    return False


def _behind(facts: Facts, key: Key) -> set[Key]:
    """Return all values that a constant is made of."""
    found, edge = {key}, [key]
    while edge:
        maker = facts.maker.get(edge.pop())
        edge += [ref.key for ref in maker.reads if ref.key not in found] if maker else []
        found.update(edge)
    return found


def _squashes(tape: Tape, facts: Facts, step: Step) -> bool:
    """Return whether a signal times one learned number is bounded and takes a gain, as in DyT."""
    if len(step.reads) != 1 or step.reads[0].key not in facts.active or not step.reads[0].is_float:
        return False
    ref, out = step.reads[0], step.writes[0]
    gains = [other for i in tape.readers(out.key) for other in tape.steps[i].reads]
    if ref.size != out.size or not any(_learned(facts, gain) and gain.numel > 1 for gain in gains):
        return False
    before: Ref | None = ref
    while before is not None:
        maker = facts.maker.get(before.key)
        if maker is None or maker.name not in ("mul", "div", "add", "sub"):
            return False
        if any(_learned(facts, other) and other.numel == 1 for other in maker.reads):
            break
        before = next((other for other in maker.reads if other.key in facts.active), None)
    ends = []
    for factor in (1e6, 1e9):
        operands = {(step.index, 0): tape.value(ref) * factor}
        ends.append(tape.play(operands=operands, until=step.index).value(out))
    return bool(ends[0].isfinite().all()) and torch.allclose(ends[0], ends[1], rtol=1e-3)


def _learned(facts: Facts, ref: Ref) -> bool:
    return ref.key not in facts.active and bool(facts.origin.get(ref.key))


def _before(facts: Facts, key: Key, stop: Container[int] = ()) -> set[Key]:
    """Return the active values that a value is made of, at most ``BACK`` steps back."""
    found, edge = {key}, [key]
    for _ in range(BACK):
        edge = [
            ref.key
            for known in edge
            if known in facts.maker and facts.maker[known].index not in stop
            for ref in facts.maker[known].reads
            if ref.key in facts.active and ref.is_float and ref.key not in found
        ]
        found |= set(edge)
    return found


def _invariant(tape: Tape, step: Step, root: Ref) -> bool:
    out = step.writes[0]
    results = []
    for factor in (1e2, 1e4, -1e4):
        grown = flat(tape, root) * factor
        play = tape.play({root.key: grown.untyped_storage()}, until=step.index)
        if out.key not in play.live or not bool(play.value(out).isfinite().all()):
            return False
        results.append(play.value(out))
    size = float(results[0].abs().max())
    changes = (results[0] - results[1], results[1] + results[2])
    return size > 0 and all(float(change.abs().max()) <= 1e-3 * size for change in changes)
