"""Classify the steps of a tape: weights, norms, and sums of two signals.

A value is *active* if it depends on the signal: an input, an embedding lookup, or a parameter that
stands for tokens. Operations are known by their kind, not by module names. Norms that are written
out are found by :mod:`gamma_nlp.check.probe.norms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gamma_nlp.check.probe.blocks import flat, window_on
from gamma_nlp.check.probe.picks import BY_INDEX, BY_SIZE
from gamma_nlp.check.probe.tape import Key, Ref, Step, Tape


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRODUCTS = _names("""
    mm bmm mv dot vdot ger outer linear matmul einsum _grouped_mm _scaled_mm _int_mm
    _weight_int8pack_mm _weight_int4pack_mm bilinear _trilinear
""")
NOT_NORMS = _names("linalg_vector_norm norm renorm _weight_norm linalg_norm")
LOOKUPS = _names("embedding embedding_bag _embedding_bag index index_select gather")
TOKEN_NORMS = _names("native_layer_norm _fused_rms_norm")
"""Whatever these normalise is tokens, even a parameter."""
WEIGHS = ("mm", "linear", "matmul", "conv", "dot")
"""Parts of the names of foreign kernels that contract with a matrix of numbers."""
KEEP_SPECTRUM = _names("mul div add sub clone _to_copy cat copy where masked_fill constant_pad_nd")
SHAPES = _names(
    "zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones"
)
"""Take the shape of their operand and none of its values."""
SUMS = _names("add sub rsub index_add scatter_add index_put scatter_reduce")


@dataclass(kw_only=True)
class Facts:
    """What is known about the steps and the memory of a tape.

    Attributes:
        active: Versions of memory blocks that depend on the signal.
        origin: For all other versions, the parameters that they are made of.
        held: Of these, the constant matrices that the model holds, and what is made of them alone.
        steered: Indices and masks made of the signal.
        varying: What is made of inputs, be they indices or masks, or of random numbers.
        weights: Steps that contract the signal with a parameter.
        contractions: Steps that contract the signal with itself, as attention does.
        norms: Steps whose output is a normalised signal.
        sums: Steps that add signals, and these signals.
        scores: Inputs of a softmax.
        picks: Steps that another input would make pick other elements of their first operand.
        maker: The step that made each version of a block.
        active_steps: Steps whose result is active.
    """

    active: set[Key] = field(default_factory=set)
    origin: dict[Key, frozenset[str]] = field(default_factory=dict)
    held: set[Key] = field(default_factory=set)
    steered: set[Key] = field(default_factory=set)
    varying: set[Key] = field(default_factory=set)
    weights: set[int] = field(default_factory=set)
    contractions: set[int] = field(default_factory=set)
    norms: set[int] = field(default_factory=set)
    sums: dict[int, tuple[Ref, ...]] = field(default_factory=dict)
    scores: list[Ref] = field(default_factory=list)
    picks: set[int] = field(default_factory=set)
    maker: dict[Key, Step] = field(default_factory=dict)
    active_steps: set[int] = field(default_factory=set)


def examine(
    tape: Tape,
    names: Mapping[Key, str],
    inputs: Iterable[Key],
    held: Set[Key] = frozenset(),
    given: Set[Key] = frozenset(),
) -> Facts:
    """Classify the steps of a tape.

    Args:
        tape: A recorded forward pass.
        names: The parameters, by the memory that they are in.
        inputs: The memory of the inputs that carry a signal.
        held: The memory of other matrices that the model holds, as buffers or attributes.
            Contracted with the signal these are weights too; what the pass makes of shapes is none.
        given: The memory of all inputs, indices and masks included.
    """
    # A parameter turns out to stand for tokens only where it is used, as when a latent query is
    # normalised. Then read the tape again with it active, until no more are found.
    tokens: set[str] = set()
    while True:
        facts, found = _read(tape, names, set(inputs), held, given, tokens)
        if found <= tokens:
            break
        tokens |= found
    return facts


def _read(
    tape: Tape,
    names: Mapping[Key, str],
    inputs: set[Key],
    held: Set[Key],
    given: Set[Key],
    tokens: set[str],
) -> tuple[Facts, set[str]]:
    facts = Facts(active=set(inputs), held=set(held) - inputs - names.keys())
    facts.varying = inputs | given
    found: set[str] = set()
    for key, name in names.items():
        if name in tokens:
            facts.active.add(key)
        else:
            facts.origin[key] = frozenset([name])
    for step in tape.steps:
        reads = () if step.name in SHAPES else step.reads
        signal = [r.key in facts.active and r.is_float for r in reads]
        origins = [facts.origin.get(r.key, frozenset()) for r in reads]
        active = any(signal)
        steered = any(r.key in facts.active | facts.steered for r in step.reads)
        if step.name in LOOKUPS and any(origins) and not step.reads[-1].is_float:
            # What the signal picks from a stack of matrices is an expert, and still a matrix.
            active = not (steered and sum(n > 1 for n in step.reads[0].size) > 2)
        if _contracts(step):
            active = _contraction(facts, step, signal, origins) or active
            if not active and all(origins[:2]) and not set.intersection(*map(set, origins[:2])):
                found |= _normalised(
                    tape, facts, names, step, 0, origins[0]
                )  # a weight reads tokens
        elif "norm" in step.name and step.name not in NOT_NORMS and step.reads:
            if not signal[0] and step.name in TOKEN_NORMS and origins[0]:
                found |= origins[0]
                active = True
            facts.norms.add(step.index)
        elif step.name in ("cat", "stack") and active:
            for position, own in enumerate(origins):  # joined to tokens, so tokens themselves
                found |= _normalised(tape, facts, names, step, position, own) or own
        elif "softmax" in step.name and "log" not in step.name:
            facts.scores += step.reads[:1]
        elif "attention" in step.name:
            facts.scores += [r for r in step.reads[3:4] if r.is_float]
            facts.contractions.add(step.index)
        elif step.name in SUMS:
            if len(step.reads) > 1 and signal[0] and signal[-1] and _adds(step):
                facts.sums[step.index] = (step.reads[0], step.reads[-1])
        elif step.name in ("sum", "mean") and signal[:1] == [True]:
            if layers := _layers(facts, step):
                facts.sums[step.index] = layers
        elif (active and _filters(facts, step, signal, origins)) or (
            active and _unknown_kernel(facts, step, signal, origins)
        ):
            facts.weights.add(step.index)
        if active and signal[:1] == [True] and _picks(facts, step):
            facts.picks.add(step.index)
        varies = step.random or any(r.key in facts.varying for r in reads)
        for ref in step.writes:
            facts.maker[ref.key] = step
            if steered and not ref.is_float:
                facts.steered.add(ref.key)
            if varies or (ref.key[0], ref.key[1] - 1) in facts.varying:
                facts.varying.add(ref.key)
            before = (ref.key[0], ref.key[1] - 1)
            if active or before in facts.active:
                facts.active.add(ref.key)
                facts.active_steps.add(step.index)
            else:
                facts.origin[ref.key] = frozenset().union(
                    *origins, facts.origin.get(before, frozenset())
                )
                if any(r.key in facts.held for r in step.reads):
                    facts.held.add(ref.key)
    return facts, found


def _normalised(
    tape: Tape,
    facts: Facts,
    names: Mapping[Key, str],
    step: Step,
    position: int,
    own: Set[str],
) -> set[str]:
    """Return which parameters an operand made of several holds normalised: their size is lost.

    What else is in it is the gain and the bias of the norm.
    """
    if len(own) < 2:
        return set()
    before = tape.value(step.reads[position])
    lost = set()
    for key, name in names.items():
        if name not in own or not before.is_floating_point() or not tape.readers(key):
            continue
        ref = window_on(tape, facts.maker, key)
        if not ref.is_float:
            continue
        grown = (flat(tape, ref) * 100).untyped_storage()
        after = tape.play({key: grown}, until=step.index - 1).value(step.reads[position])
        if after.isfinite().all() and torch.allclose(after, before, rtol=1e-3, atol=1e-6):
            lost.add(name)
    return lost


def _filters(facts: Facts, step: Step, signal: list[bool], origins: list[frozenset[str]]) -> bool:
    """Return whether a step multiplies a spectrum by a matrix, which convolves the signal."""
    if step.name != "mul" or not step.writes[0].dtype.is_complex or len(signal) != 2:
        return False
    if signal[0] is signal[1]:
        return False
    spectrum, other = sorted(range(2), key=lambda position: not signal[position])
    ref: Ref | None = step.reads[spectrum]
    while ref is not None and ref.key in facts.maker:
        maker = facts.maker[ref.key]
        if maker.name.startswith("_fft"):
            matrix = sum(n > 1 for n in step.reads[other].size) > 1
            return matrix and bool(origins[other])
        plain = maker.name in KEEP_SPECTRUM
        ref = next((r for r in maker.reads if plain and r.key in facts.active), None)
    return False


def _picks(facts: Facts, step: Step) -> bool:
    """Return whether another input would make a step pick other elements of its first operand."""
    by_index = step.name in BY_INDEX and any(ref.key in facts.varying for ref in step.reads[1:])
    return by_index or step.name in BY_SIZE


def _adds(step: Step) -> bool:
    """Return whether a step that writes into places adds to what is there."""
    if step.name == "index_put":
        return True in step.leaves
    return step.name != "scatter_reduce" or "sum" in step.leaves


def _layers(facts: Facts, step: Step) -> tuple[Ref, ...]:
    """Return the signals that a step adds up as the layers of a stack, () if they are none."""
    ref, out = step.reads[0], step.writes[0]
    dims = [leaf for leaf in step.leaves[1:] if type(leaf) is int]
    if len(dims) != 1 or out.numel == 1:
        return ()
    dim = dims[0] % len(ref.size)
    before: Ref | None = ref
    while before is not None and before.key in facts.maker:
        maker = facts.maker[before.key]
        signals = [r for r in maker.reads if r.is_float and r.key in facts.active]
        if maker.name in ("cat", "stack"):
            if len(signals) != ref.size[dim] or len(signals) < 2:
                return ()
            size, stride = list(ref.size), list(ref.stride)
            del size[dim]
            step_over = stride.pop(dim)
            return tuple(
                ref._replace(
                    size=tuple(size), stride=tuple(stride), offset=ref.offset + i * step_over
                )
                for i in range(len(signals))
            )
        plain = maker.name in ("mul", "div", "clone", "_to_copy") and len(signals) == 1
        before = signals[0] if plain else None
    return ()


def _contracts(step: Step) -> bool:
    return step.name in PRODUCTS or "conv" in step.name or "rnn_layer" in step.name


def _contraction(
    facts: Facts, step: Step, signal: list[bool], origins: list[frozenset[str]]
) -> bool:
    """Note a weight or contraction; return whether a product of constants starts a signal."""
    if step.name == "bmm" and step.reads[0].size[-1] == 1:
        return False  # nothing is summed: einsum writes a plain product like this
    factors = range(2 if "rnn" not in step.name else len(step.reads))[: len(step.reads)]
    sparse = any(isinstance(leaf, Tensor) for leaf in step.leaves)
    if any(signal[i] for i in factors) and (
        sparse or any(not signal[i] and (origins[i] or _is_held(facts, step, i)) for i in factors)
    ):
        facts.weights.add(step.index)
    elif all(signal[i] for i in factors):
        facts.contractions.add(step.index)
    if sparse and not any(signal):
        return any(origins)  # a sparse input
    # What an input picks or a sinusoid of it, times a matrix, is a lookup. Two parameters are none,
    # nor is a grid times a matrix, which is a table of positions.
    looked_up = [bool(origins[i]) for i in factors] == [False, True]
    return not any(signal) and looked_up and step.reads[0].key in facts.varying


def _is_held(facts: Facts, step: Step, position: int) -> bool:
    """Return whether a factor is a matrix that the model holds, and mixes channels.

    One filter for each channel, such as a blur before a stride, only pools.
    """
    ref = step.reads[position]
    if ref.key not in facts.held or sum(n > 1 for n in ref.size) < 2:
        return False
    size = step.reads[0].size
    filters = "conv" in step.name and len(size) == len(ref.size) >= 3
    return not (filters and ref.size[1] == 1 and size[1] == ref.size[0])


def _unknown_kernel(
    facts: Facts, step: Step, signal: list[bool], origins: list[frozenset[str]]
) -> bool:
    """Return whether a step from outside PyTorch holds a matrix; if so it counts as a weight."""
    if any(isinstance(leaf, torch.ScriptObject) for leaf in step.leaves):
        return "c10d" not in step.func.namespace  # a packed matrix, not a group of processes
    if not step.foreign:
        return False
    weighs = any(word in step.name for word in WEIGHS)
    return any(
        (origin or (ref.key in facts.held and (weighs or not ref.is_float)))
        and not active
        and sum(n > 1 for n in ref.size) >= 2
        for ref, active, origin in zip(step.reads, signal, origins, strict=True)
    )
