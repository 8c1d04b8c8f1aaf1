"""What the steps of a tape are: weights, norms, sums of two signals, and where gains are read.

*Active* values depend on the signal: an input, an embedding lookup, or a parameter that stands for
tokens. Whether a hand-written product is a norm is measured: scaling what it normalises leaves its
output unchanged.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from gamma_nlp.check.probe.tape import HUGE, Key, Play, Ref, Step, Tape


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRODUCTS = _names("""
    mm bmm mv dot vdot ger outer linear matmul einsum _grouped_mm _scaled_mm _int_mm
    _weight_int8pack_mm _weight_int4pack_mm bilinear _trilinear
""")
NOT_NORMS = _names("linalg_vector_norm norm renorm _weight_norm linalg_norm")
LOOKUPS = _names("embedding embedding_bag _embedding_bag index index_select gather")
TOKEN_NORMS = _names("native_layer_norm _fused_rms_norm")
"""What they normalise are tokens, be it a parameter."""
SUMS = _names("add sub rsub index_add scatter_add index_put scatter_reduce")
BACK = 14
"""How many steps a statistic may take from the signal to the product."""


@dataclass(kw_only=True)
class Facts:
    """What is known of a tape.

    Attributes:
        active: Versions of memory blocks that depend on the signal.
        origin: For the others, the parameters that they are made of.
        weights: Steps that contract the signal with a parameter.
        contractions: Steps that contract the signal with itself, as attention does.
        norms: Steps whose output is a normalised signal.
        sums: Steps that add two signals, with the positions of the two in their reads.
        scores: What enters a softmax.
        maker: The step that made a version of a block.
        active_steps: Steps that make something active.
    """

    active: set[Key] = field(default_factory=set)
    origin: dict[Key, frozenset[str]] = field(default_factory=dict)
    weights: set[int] = field(default_factory=set)
    contractions: set[int] = field(default_factory=set)
    norms: set[int] = field(default_factory=set)
    sums: dict[int, tuple[int, int]] = field(default_factory=dict)
    scores: list[Ref] = field(default_factory=list)
    maker: dict[Key, Step] = field(default_factory=dict)
    active_steps: set[int] = field(default_factory=set)


def examine(tape: Tape, names: Mapping[Key, str], inputs: Iterable[Key]) -> Facts:
    """Read a tape.

    Args:
        tape: A recorded forward pass.
        names: Where the parameters live.
        inputs: Where the inputs that carry a signal live.
    """
    tokens: set[str] = set()
    while True:
        facts, found = _read(tape, names, set(inputs), tokens)
        if found <= tokens:
            break
        tokens |= found
    facts.norms |= {step.index for step in tape.steps if _normalises(tape, facts, step)}
    return facts


def _read(
    tape: Tape, names: Mapping[Key, str], inputs: set[Key], tokens: set[str]
) -> tuple[Facts, set[str]]:
    facts = Facts(active=set(inputs))
    found: set[str] = set()
    for key, name in names.items():
        if name in tokens:
            facts.active.add(key)
        else:
            facts.origin[key] = frozenset([name])
    for step in tape.steps:
        on = [r.key in facts.active and r.is_float for r in step.reads]
        origins = [facts.origin.get(r.key, frozenset()) for r in step.reads]
        active = any(on)
        if step.name in LOOKUPS and any(origins) and not step.reads[-1].is_float:
            active = True
        if _contracts(step):
            active = _contraction(facts, step, on, origins) or active
        elif "norm" in step.name and step.name not in NOT_NORMS and step.reads:
            if not on[0] and step.name in TOKEN_NORMS and origins[0]:
                found |= origins[0]
                active = True
            facts.norms.add(step.index)
        elif step.name in ("cat", "stack") and active:
            found |= frozenset().union(*origins)  # joined to the signal: tokens themselves
        elif "softmax" in step.name and "log" not in step.name:
            facts.scores += step.reads[:1]
        elif "attention" in step.name:
            facts.scores += [r for r in step.reads[3:4] if r.is_float]
            facts.contractions.add(step.index)
        elif step.name in SUMS:
            second = len(step.reads) - 1
            if second > 0 and on[0] and on[second]:
                facts.sums[step.index] = (0, second)
        elif active and _unknown_kernel(step, on, origins):
            facts.weights.add(step.index)
        for ref in step.writes:
            facts.maker[ref.key] = step
            before = (ref.key[0], ref.key[1] - 1)
            if active or before in facts.active:
                facts.active.add(ref.key)
                facts.active_steps.add(step.index)
            else:
                facts.origin[ref.key] = frozenset().union(
                    *origins, facts.origin.get(before, frozenset())
                )
    return facts, found


def _contracts(step: Step) -> bool:
    return step.name in PRODUCTS or "conv" in step.name or "rnn_layer" in step.name


def _contraction(facts: Facts, step: Step, on: list[bool], origins: list[frozenset[str]]) -> bool:
    """Note a weight; returns whether the product of two constants is a signal's source."""
    if step.name == "bmm" and step.reads[0].size[-1] == 1:
        return False  # nothing is summed: einsum writes products like this
    factors = range(2 if "rnn" not in step.name else len(step.reads))
    if any(on[i] for i in factors) and any(not on[i] and origins[i] for i in factors):
        facts.weights.add(step.index)
    elif all(on[i] for i in factors):
        facts.contractions.add(step.index)
    # A sinusoid or a one-hot vector times a matrix; not a product of two parameters.
    return not any(on) and [bool(origins[i]) for i in factors] == [False, True]


def _unknown_kernel(step: Step, on: list[bool], origins: list[frozenset[str]]) -> bool:
    if not step.foreign:
        return False
    if any(isinstance(leaf, torch.ScriptObject) for leaf in step.leaves):
        return True  # a packed matrix
    return any(
        origin and not active and sum(n > 1 for n in ref.size) >= 2
        for ref, active, origin in zip(step.reads, on, origins, strict=True)
    )


# Hand-written norms -----------------------------------------------------------------------------


def _normalises(tape: Tape, facts: Facts, step: Step) -> bool:
    """Whether a product of a signal with a smaller one stays as it is when their root grows."""
    if step.name not in ("mul", "div") or len(step.reads) != 2 or not step.writes[0].is_float:
        return False
    first, second = step.reads
    if first.key not in facts.active or second.key not in facts.active:
        return False
    if first.numel <= second.numel and (step.name == "div" or first.numel == second.numel):
        return False
    signal, factor = (first, second) if first.numel > second.numel else (second, first)
    # A statistic is taken of the signal as it is, though the signal may go through a weight.
    shared = _before(facts, signal.key) & _before(facts, factor.key, stop=facts.weights)
    made = {key: facts.maker[key].index if key in facts.maker else -1 for key in shared}
    for root in sorted(shared, key=made.__getitem__, reverse=True)[:2]:
        if _invariant(tape, step, like(tape, facts, root)):
            return True
    return False


def _before(facts: Facts, key: Key, stop: Container[int] = ()) -> set[Key]:
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


def like(tape: Tape, facts: Facts, key: Key) -> Ref:
    """A window that some step has on this version of a block."""
    maker = facts.maker.get(key)
    refs = list(maker.writes) if maker else []
    refs += [ref for index in tape.readers(key)[:1] for ref in tape.steps[index].reads]
    return next(ref for ref in refs if ref.key == key)


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
    # A share of a sum is invariant too, but it does not change its sign with the signal.
    changes = (results[0] - results[1], results[1] + results[2])
    return size > 0 and all(float(change.abs().max()) <= 1e-3 * size for change in changes)


def flat(tape: Tape, ref: Ref, play: Play | None = None) -> torch.Tensor:
    """All of the block that a window looks at, as one row of the window's dtype; a copy."""
    return (play or tape).whole(ref.key, ref.dtype).clone()


def shaken(tape: Tape, ref: Ref) -> torch.UntypedStorage:
    """The block behind a window with noise of a tenth of its values on it."""
    values = flat(tape, ref)
    generator = torch.Generator().manual_seed(0)
    real = torch.float64 if not values.is_complex() else values.real.dtype
    noise = torch.randn(2, *values.shape, generator=generator, dtype=real)
    noise = noise.to(device=values.device)
    size = values.abs()
    usable = size.isfinite() & (size < HUGE)
    usable = usable if bool(usable.any()) else size.isfinite()
    middle = size[usable].median() if bool(usable.any()) else size.new_ones(())
    step = 0.1 * (values * noise[0] + torch.clamp_min(middle, 1e-3) * noise[1])
    return torch.where(usable, values + step, values).to(values.dtype).untyped_storage()
