"""Whether strong regularisation should act now, and the shrinking itself, over many tensors.

g is the gradient of the loss at w, r that of the penalty R = l1 |w|_1 + l2 |w|**2 / 2, so
r = l1 sign(w) + l2 w. With L1, both are taken over the weights that are not 0 [R]: L1 has no
gradient at the others, and in a network that is nearly all zeros the gradient there would drown
the penalty, so that the two seem coherent just when the network collapses. Nothing here waits for
the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError

Rule = Literal["always", "delayed", "direction", "magnitude"]
Scope = Literal["global", "tensor"]
TOGETHER = 2**22
"""Elements that one multi-tensor call takes at most, so that what it needs beside them is small."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How strong, and when; see :class:`.strong.StrongRegularizer` for the meaning of each.

    Raises:
        GammaError: A value that means nothing.
    """

    l1: float = 0.0
    l2: float = 0.0
    rule: Rule = "direction"
    delay_steps: int = 0
    threshold: float = 0.3
    ratio: float = 3.0
    scope: Scope = "global"
    every: int = 1

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "ratio"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise GammaError(f"{name} must be a number >= 0, got {value!r}")
        if not self.l1 and not self.l2:
            raise GammaError("l1 and l2 are both 0, so nothing would happen; set one of them")
        for name, kind in (("rule", Rule), ("scope", Scope)):
            if getattr(self, name) not in get_args(kind):
                said = ", ".join(repr(one) for one in get_args(kind))
                raise GammaError(f"{name} must be one of {said}; got {getattr(self, name)!r}")
        if not (_is_number(self.threshold) and -1 <= self.threshold <= 1):
            raise GammaError(f"threshold is a cosine from -1 to 1, got {self.threshold!r}")
        for name, least in (("delay_steps", 0), ("every", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise GammaError(f"{name} must be a whole number >= {least}, got {value!r}")
        if self.rule == "delayed" and not self.delay_steps:
            raise GammaError(
                "rule 'delayed' needs delay_steps, the optimizer steps without regularisation"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def bundles(tensors: Sequence[Tensor]) -> Iterator[slice]:
    """Runs of neighbours that one multi-tensor call can take together."""
    start, size = 0, 0
    for i, tensor in enumerate(tensors):
        first = tensors[start]
        alike = (tensor.device, tensor.dtype) == (first.device, first.dtype)
        if i > start and (not alike or size + tensor.numel() > TOGETHER):
            yield slice(start, i)
            start, size = i, 0
        size += tensor.numel()
    if tensors:
        yield slice(start, len(tensors))


def measure(weights: list[Tensor], gradients: list[Tensor], *, l1: float, l2: float) -> Tensor:
    """Return |g|**2, <g, r> and |r|**2 of each tensor.

    Returns:
        float32 of shape [tensors, 3], on the device of the first.
    """
    home = weights[0].device
    rows = []
    for some in bundles(weights):
        w, g = weights[some], gradients[some]
        if l1:
            signs = torch._foreach_sign(w)
            own = l1**2 * _norms(signs).square()
            torch._foreach_mul_(signs, g)
            square = _norms(signs).square()
            inner = l1 * torch.stack([one.sum(dtype=_wide(one)) for one in signs]).float()
        else:
            square = _norms(g).square()
            inner, own = torch.zeros_like(square), torch.zeros_like(square)
        if l2:
            inner += l2 * _dots(g, w)
            own += l2**2 * _norms(w).square()
        if l1 and l2:
            own += 2 * l1 * l2 * _norms(w, 1)
        rows.append(torch.stack([square, inner, own], dim=1).to(home))
    return torch.cat(rows)


def _norms(tensors: Sequence[Tensor], order: int = 2) -> Tensor:
    found = torch._foreach_norm(list(tensors), order, dtype=_wide(tensors[0]))
    return torch.stack(list(found)).float()


def _dots(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    # A dot product of half-precision tensors would be rounded to half precision.
    wide = _wide(first[0])
    pairs = [
        torch.dot(a.reshape(-1).to(wide), b.reshape(-1).to(wide))
        for a, b in zip(first, second, strict=True)
    ]
    return torch.stack(pairs).float()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def decide(found: Tensor, how: Strength, started: bool | Tensor) -> tuple[Tensor, Tensor]:
    """Return on which tensors to act, and how coherent the gradient stays if one does.

    Args:
        found: From :func:`measure`.
        how: The rule and its numbers.
        started: Whether ``how.delay_steps`` are over.

    Returns:
        Bool of shape [tensors]; cos(g, g + r) of shape [tensors + 1], the last of all tensors
        as one vector. It is 0 where g is 0: then only the penalty would speak.
    """
    square, inner, own = torch.cat([found, found.sum(0, keepdim=True)]).unbind(1)
    length = (square * (square + 2 * inner + own).clamp(min=0)).sqrt()
    coherence = ((square + inner) / length).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    if how.rule == "direction":
        act = coherence >= how.threshold
    elif how.rule == "magnitude":
        act = own <= how.ratio**2 * square
    else:
        act = torch.ones_like(coherence, dtype=torch.bool)
    act = act & started
    return (act[:-1] if how.scope == "tensor" else act[-1:].expand(len(found))), coherence


def shrink(
    weights: list[Tensor],
    doses: Tensor,
    *,
    l1: float,
    l2: float,
    acts: Tensor,
    zeros: list[Tensor] | None = None,
) -> None:
    """Shrink weights in place: ``w *= 1 - dose l2``, then ``w = sign(w) max(|w| - dose l1, 0)``.

    Args:
        weights: The tensors.
        doses: The sum of learning rates that is due, shape [tensors].
        l1: Coefficient of L1.
        l2: Coefficient of L2.
        acts: Bool of shape [tensors]: which are shrunk.
        zeros: Bool tensors: what the last shrinking made 0. Such weights are put back to 0 where
            this one does not act; where it does, they are marked anew.
    """
    if acts.device.type == "cpu":  # reading a decision waits for nothing there
        shrink_at_once(weights, doses, l1, l2, acts, zeros)
    else:
        shrink_unseen(weights, doses, l1, l2, acts, zeros)


def shrink_unseen(
    weights: list[Tensor],
    doses: Tensor,
    l1: float,
    l2: float,
    acts: Tensor,
    zeros: list[Tensor] | None,
) -> None:
    """:func:`shrink` without looking at the decisions, many tensors per call."""
    doses = doses * acts
    for some in bundles(weights):
        w, device = weights[some], weights[some.start].device
        due = doses[some].to(device)
        if l2:
            torch._foreach_mul_(w, (1 - l2 * due).unbind())
        if l1:
            # What is taken off is w itself, but at most the threshold: no zero has a sign.
            limits = l1 * due
            taken = torch._foreach_maximum(w, (-limits).unbind())
            torch._foreach_minimum_(taken, limits.unbind())
            torch._foreach_sub_(w, taken)
        if zeros is not None:
            for one, marked, act in zip(w, zeros[some], acts[some].to(device), strict=True):
                one.masked_fill_(marked & ~act, 0.0)
                marked.copy_(torch.where(act, one == 0, marked))


def shrink_at_once(
    weights: list[Tensor],
    doses: Tensor,
    l1: float,
    l2: float,
    acts: Tensor,
    zeros: list[Tensor] | None,
) -> None:
    """:func:`shrink` with the decisions read, so that only what is needed is done."""
    for i, (w, dose, act) in enumerate(zip(weights, doses.tolist(), acts.tolist(), strict=True)):
        if act and l2:
            w.mul_(1 - l2 * dose)
        if act and l1:
            w.sub_(w.clamp(-l1 * dose, l1 * dose))
        if zeros is not None and act:
            torch.eq(w, 0, out=zeros[i])
        elif zeros is not None:
            w.masked_fill_(zeros[i], 0.0)
