"""Decide whether strong regularisation acts at this step, and shrink the weights if it does.

g is the gradient of the loss at w, r that of the penalty R = l1 |w|_1 + l2 |w|**2 / 2, so
r = l1 sign(w) + l2 w. With L1, both are taken over the weights that are not 0 [R]: L1 has no
gradient at the others, and in a network that is nearly all zeros the loss gradient there would
drown the penalty, so that the two would seem coherent just when the network collapses. Nothing
here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gamma_nlp.companions.arguments import is_number, whole_number
from gamma_nlp.errors import GammaError, listed

Rule = Literal["always", "delayed", "direction", "magnitude"]
Scope = Literal["global", "tensor"]
TOGETHER = 2**22
"""Most elements in one multi-tensor call, so that its temporary memory stays small."""


@dataclass(frozen=True, kw_only=True)
class StrongSettings:
    """How strongly to regularise and when; :class:`.regularizer.StrongRegularizer` explains each.

    Raises:
        GammaError: A value is out of range.
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
            if not (is_number(value) and 0 <= value < math.inf):
                raise GammaError(f"{name} must be a number >= 0, got {value!r}")
        if not self.l1 and not self.l2:
            raise GammaError("l1 and l2 are both 0, so nothing would happen; set one of them")
        for name, kind in (("rule", Rule), ("scope", Scope)):
            if getattr(self, name) not in get_args(kind):
                options = listed(get_args(kind))
                raise GammaError(f"{name} must be one of {options}; got {getattr(self, name)!r}")
        if not (is_number(self.threshold) and -1 <= self.threshold <= 1):
            raise GammaError(f"threshold must be a cosine from -1 to 1, got {self.threshold!r}")
        whole_number(self.delay_steps, "delay_steps", least=0)
        whole_number(self.every, "every")
        if self.rule == "delayed" and not self.delay_steps:
            raise GammaError(
                "rule 'delayed' needs delay_steps, the optimizer steps without regularisation"
            )


def bundles(tensors: Sequence[Tensor]) -> Iterator[slice]:
    """Yield runs of neighbours that one multi-tensor call can take together."""
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
        float32 of shape [tensors, 3], on the first tensor's device.
    """
    home = weights[0].device
    rows = []
    for some in bundles(weights):
        w, g = weights[some], gradients[some]
        if l1:
            signs = torch._foreach_sign(w)
            penalty_square = l1**2 * _norms(signs).square()
            torch._foreach_mul_(signs, g)
            loss_square = _norms(signs).square()
            dot = l1 * torch.stack([one.sum(dtype=_wide(one)) for one in signs]).float()
        else:
            loss_square = _norms(g).square()
            dot, penalty_square = torch.zeros_like(loss_square), torch.zeros_like(loss_square)
        if l2:
            dot += l2 * _dots(g, w)
            penalty_square += l2**2 * _norms(w).square()
        if l1 and l2:
            penalty_square += 2 * l1 * l2 * _norms(w, 1)
        rows.append(torch.stack([loss_square, dot, penalty_square], dim=1).to(home))
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


def decide(
    found: Tensor, settings: StrongSettings, started: bool | Tensor
) -> tuple[Tensor, Tensor]:
    """Return which tensors to shrink, and how coherent the gradient stays with the penalty.

    Args:
        found: |g|**2, <g, r> and |r|**2 from :func:`measure`.
        settings: The rule and its numbers.
        started: Whether ``settings.delay_steps`` are over.

    Returns:
        Bool of shape [tensors]; cos(g, g + r) of shape [tensors + 1], the last one that of all
        tensors as one vector. It is 0 where g is 0, since then only the penalty acts.
    """
    loss_square, dot, penalty_square = torch.cat([found, found.sum(0, keepdim=True)]).unbind(1)
    both_square = (loss_square + 2 * dot + penalty_square).clamp(min=0)
    coherence = (
        ((loss_square + dot) / (loss_square * both_square).sqrt())
        .nan_to_num(0.0, 0.0, 0.0)
        .clamp(-1, 1)
    )
    if settings.rule == "direction":
        act = coherence >= settings.threshold
    elif settings.rule == "magnitude":
        act = penalty_square <= settings.ratio**2 * loss_square
    else:
        act = torch.ones_like(coherence, dtype=torch.bool)
    act = act & started
    return (act[:-1] if settings.scope == "tensor" else act[-1:].expand(len(found))), coherence


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
        doses: The sum of learning rates since the last decision, shape [tensors].
        l1: Coefficient of L1.
        l2: Coefficient of L2.
        acts: Bool of shape [tensors]: which to shrink.
        zeros: Bool tensors that mark what the last shrinking made 0. Where this one does not act,
            marked weights are set back to 0; where it does, they are marked again.
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
    """Do what :func:`shrink` does without reading the decisions, many tensors per call."""
    doses = doses * acts
    for some in bundles(weights):
        w, device = weights[some], weights[some.start].device
        due = doses[some].to(device)
        if l2:
            torch._foreach_mul_(w, (1 - l2 * due).unbind())
        if l1:
            # Subtract w itself, but at most the limit: a zero made this way has no sign.
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
    """Do what :func:`shrink` does, reading the decisions, so that only what is needed is done."""
    for i, (w, dose, act) in enumerate(zip(weights, doses.tolist(), acts.tolist(), strict=True)):
        if act and l2:
            w.mul_(1 - l2 * dose)
        if act and l1:
            w.sub_(w.clamp(-l1 * dose, l1 * dose))
        if zeros is not None and act:
            torch.eq(w, 0, out=zeros[i])
        elif zeros is not None:
            w.masked_fill_(zeros[i], 0.0)
