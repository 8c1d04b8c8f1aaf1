"""What each parameter does in a value that is made of parameters and constants alone.

A model may contract the signal with such a value, or add it. Whether a parameter in it is then a
weight or a bias depends on how the value was made::

    g * v / |v|          weight norm: the entries of v are the value's own, and g scales them
    w + b @ a            merged LoRA: w stands in it, and so does the product of b and a
    softmax(w)           bent, but of w alone: w is all that is learned of it
    c @ exp(a * t)       a kernel: c stands in it; a, spread over the times t and then bent,
                         generates it
    W @ t + b            W is contracted with a constant: it is a weight already, and b a bias

So each parameter has a :class:`Part`, which the operations change. *Rows* are apart from that: the
parameters that go on through contractions as tokens do, as first factors.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from gamma_nlp.graph import operations


class Part(enum.IntEnum):
    """What a parameter does in a value; of several parts the first counts."""

    ENTRIES = 0
    """Its entries are the value's own, linear in it, and it is alone."""
    JOINED = 1
    """The same, in a sum or product with something else."""
    PROJECTED = 2
    """Rows that a weight and a bias have projected, as a learned query is."""
    SPREAD = 3
    """A factor of many entries each."""
    BENT = 4
    """A nonlinear function of it alone."""
    DONE = 5
    """It generates the value, or was contracted before: what follows says nothing about it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a value's parameters.

    Attributes:
        of: The part of each parameter.
        rows: The parameters that stand in the value as rows: tokens, if it turns out to hold some.
        product: Whether the value comes out of a contraction.
        reduced: Whether the value is a statistic, such as a mean.
        normed: Whether the value was divided by its own statistic. Vectors that scale and shift it
            are a norm's gain and bias, and no rows.
        scaled: Whether such a vector has scaled it.
    """

    of: Mapping[str, Part] = field(default_factory=dict)
    rows: frozenset[str] = frozenset()
    product: bool = False
    reduced: bool = False
    normed: bool = False
    scaled: bool = False

    @property
    def contracted(self) -> frozenset[str]:
        """The parameters that are weights where the value is contracted."""
        nothing = (Part.PROJECTED, Part.DONE)
        return frozenset(name for name, part in self.of.items() if part not in nothing)

    @property
    def added(self) -> frozenset[str]:
        """The parameters that are biases or tables where the value is added."""
        return frozenset(name for name, part in self.of.items() if part <= Part.PROJECTED)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an operation on parameters and constants gives, and the roles that it shows."""

    parts: Parts
    weights: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset()


def parameter(name: str) -> Parts:
    """Return the parts of a parameter itself."""
    return Parts(of={name: Part.ENTRIES}, rows=frozenset([name]))


def make(
    name: str,
    tensors: Sequence[torch.Tensor],
    parts: Sequence[Parts | None],
    output: torch.Tensor,
) -> Made:
    """Return what an operation makes of its operands.

    Args:
        name: The operation.
        tensors: Its operands.
        parts: The parts of each operand, ``None`` for a constant.
        output: Its first output.
    """
    operands = list(zip(tensors, parts, strict=True))
    outer = name in ("mm", "bmm") and tensors[0].shape[-1] == 1
    if name in operations.CONTRACTIONS and not outer:
        return _contract(name, operands)
    if name in operations.SUMS or name in operations.PRODUCTS or outer:
        return _join(name, operands, output)
    known = [own for own in parts if own is not None]
    if operations.is_norm(name):  # its gain and bias are no rows
        known = [own if own is parts[0] else replace(own, rows=frozenset()) for own in known]
    if name not in operations.UNBENT and "norm" not in name:
        grown = any(p is not None and t.numel() < output.numel() for t, p in operands)
        # A vector that is bent first is a rate, or the shares of a mix.
        known = [_bent(own, alone=not grown and not _is_vector(output)) for own in known]
    made = _union(known)
    return Made(parts=replace(made, reduced=made.reduced or name in operations.TOTALS))


def normalised(parts: Sequence[Parts | None]) -> frozenset[str]:
    """Return the rows that a product of these operands normalises: ``h * rsqrt(mean(h ** 2))``.

    Weights are normalised so too. Rows are told from them by what has projected them.
    """
    known = [own for own in parts if own is not None]
    if len(known) != 2 or known[0].reduced == known[1].reduced:
        return frozenset()
    value, statistic = sorted(known, key=lambda own: own.reduced)
    projected = {row for row in value.rows if value.of[row] in (Part.PROJECTED, Part.DONE)}
    return value.rows if value.product and projected & statistic.of.keys() else frozenset()


def read_as_rows(name: str, parts: Sequence[Parts | None]) -> frozenset[str]:
    """Return the rows that a contraction with a weight reads behind a norm with its gain.

    A weight that is normalised and scaled is contracted with the signal instead.
    """
    factors = parts[1:] if name in operations.BIAS_FIRST else parts[:2]
    first, second = (*factors, None, None)[:2]
    scaled = first is not None and first.scaled and second is not None and second.contracted
    return first.rows if first is not None and scaled else frozenset()


def _join(
    name: str, operands: Sequence[tuple[torch.Tensor, Parts | None]], output: torch.Tensor
) -> Made:
    """Sum or multiply operands; a divisor is bent."""
    product = name not in operations.SUMS
    biases: frozenset[str] = frozenset()
    found = []
    scaled = False
    for index, (tensor, own) in enumerate(operands):
        if own is None:
            continue
        others = [p for other, (_, p) in enumerate(operands) if other != index and p is not None]
        learned = {n: part for p in others for n, part in p.of.items() if n not in own.of}
        rows = {row for p in others if p.product for row in p.rows}
        projects = any(p.product for p in others) and not own.product and not own.rows & rows
        if not product and _is_vector(tensor) and projects:
            biases |= own.added  # b of W t + b
            own = _done(own)
        elif product and learned and tensor.numel() == 1 < output.numel():
            own = _done(own)  # one number scales a weight or mixes two
        elif name == "div" and index == 1:
            own = _bent(own, alone=False)
        elif product and own.of.keys() <= {n for p in others for n in p.of}:
            pass  # divided by its own length, multiplied by its own sign
        elif _is_spread(tensor, output):
            own = _changed(own, Part.SPREAD if product else Part.JOINED, bent=Part.DONE)
        elif learned:
            gate = min(learned.values()) < Part.BENT
            own = _changed(own, Part.JOINED, bent=Part.DONE if gate else Part.BENT)
        if product and not own.product and any(p.product for p in others):
            own = replace(own, rows=frozenset())  # a factor of rows
        if not own.normed and _is_row(tensor) and any(p.normed for p in others):
            own = replace(own, rows=frozenset())  # the gain or bias of a norm
            scaled = scaled or product
        found.append(own)
    made = _union(found)
    normed = made.normed or (product and _is_by_statistic([p for _, p in operands]))
    made = replace(made, normed=normed, scaled=scaled or made.scaled)
    return Made(parts=_project(made, biases), biases=biases)


def _is_by_statistic(parts: Sequence[Parts | None]) -> bool:
    """Return whether a value meets a statistic of itself."""
    known = [own for own in parts if own is not None]
    if len(known) != 2 or known[0].reduced == known[1].reduced:
        return False
    return not known[0].of.keys().isdisjoint(known[1].of)


def _contract(name: str, operands: Sequence[tuple[torch.Tensor, Parts | None]]) -> Made:
    """Contract operands with each other: a matrix is a weight, but not where it stands as rows."""
    first = name in operations.BIAS_FIRST
    factors = operands[1:] if first else operands[:2] if _has_bias(name) else operands
    summand = operands[:1] if first else operands[2:] if _has_bias(name) else []
    if len(factors) == 2 and _is_vector(factors[1][0]) and not _is_vector(factors[0][0]):
        factors = [factors[1], factors[0]]  # W p: the matrix is the weight
    weights: set[str] = set()
    biases: set[str] = set()
    found: list[Parts] = []
    for index, (tensor, own) in enumerate(factors):
        if own is None:
            continue
        others = [p for other, (_, p) in enumerate(factors) if other != index]
        alone = not any(p is not None and (p.product or p.contracted) for p in others)
        # Of two parameters, as in `p @ W`, the first stands as rows.
        matrix = not own.product and not _is_vector(tensor) and (index > 0 or alone)
        weights |= own.contracted if matrix else set()
        rows = own.rows if index == 0 or own.product else frozenset()
        changed = _done(own) if matrix else _changed(own, Part.JOINED, bent=Part.BENT)
        found.append(Parts(of=changed.of, rows=rows, product=True))
    for tensor, own in summand:
        if own is not None and (_is_vector(tensor) or not found):
            biases |= own.added
            found.append(_done(own))
        elif own is not None:
            found.append(_changed(own, Part.JOINED, bent=Part.DONE))
    parts = _project(_union(found), frozenset(biases))
    return Made(
        parts=replace(parts, product=True),
        weights=frozenset(weights),
        biases=frozenset(biases),
    )


def _union(several: Iterable[Parts]) -> Parts:
    of: dict[str, Part] = {}
    rows: frozenset[str] = frozenset()
    every = list(several)
    for parts in every:
        for name, part in parts.of.items():
            of[name] = min(part, of.get(name, part))
        rows |= parts.rows
    product = any(parts.product for parts in every)
    return Parts(
        of=of,
        rows=rows,
        product=product,
        reduced=bool(every) and all(parts.reduced for parts in every),
        normed=any(parts.normed for parts in every),
        scaled=any(parts.scaled for parts in every),
    )


def _bent(own: Parts, alone: bool) -> Parts:
    of = {
        name: Part.BENT if alone and part in (Part.ENTRIES, Part.BENT) else Part.DONE
        for name, part in own.of.items()
    }
    # Tokens stay rows behind a nonlinearity; what generates a value is none.
    rows = own.rows if own.product else frozenset(n for n in own.rows if of[n] is Part.BENT)
    return replace(own, of=of, rows=rows)


def _changed(own: Parts, linear: Part, bent: Part) -> Parts:
    of = {
        name: max(part, bent) if part >= Part.BENT else max(part, linear)
        for name, part in own.of.items()
    }
    return replace(own, of=of)


def _project(own: Parts, biases: frozenset[str]) -> Parts:
    """Note that a weight with a bias, unlike the factors of a matrix, works on rows."""
    if not biases:
        return own
    of = {n: max(part, Part.PROJECTED) if n in own.rows else part for n, part in own.of.items()}
    return replace(own, of=of)


def _done(own: Parts) -> Parts:
    return Parts(of=dict.fromkeys(own.of, Part.DONE), product=own.product)


def _has_bias(name: str) -> bool:
    return name == "linear" or "conv" in name


def _is_vector(tensor: torch.Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) <= 1


def _is_row(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a vector along the last dimension, as gains and biases are."""
    return _is_vector(tensor) and tensor.dim() > 0 and tensor.shape[-1] > 1


def _is_spread(tensor: torch.Tensor, output: torch.Tensor) -> bool:
    """Return whether an operand's entries are repeated in the output."""
    repeated = any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, _stride(tensor), strict=True)
    )
    return repeated or tensor.numel() < output.numel()


def _stride(tensor: torch.Tensor) -> Sequence[int]:
    return tensor.stride() if tensor.layout is torch.strided else [1] * tensor.dim()
