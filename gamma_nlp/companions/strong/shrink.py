"""Shrink weights by L1 and L2, many tensors per call, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

TOGETHER = 2**22
"""Most elements in one multi-tensor call, so that its temporary memory stays small."""


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


def proximal(w: Tensor, reach: Tensor, l1: float, l2: float) -> Tensor:
    """Return the v that minimises ``l1 |v| + l2 v**2 / 2 + (v - w)**2 / (2 reach)``."""
    return (w - w.clamp(-l1 * reach, l1 * reach)) / (1 + l2 * reach)


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
            torch._foreach_mul_(w, (1 - l2 * due).clamp(min=0).unbind())
        if l1:
            # Subtract w itself, but at most the limit: a zero made this way has no sign.
            limits = l1 * due
            taken = torch._foreach_maximum(w, (-limits).unbind())
            torch._foreach_minimum_(taken, limits.unbind())
            torch._foreach_sub_(w, taken)
        _mark(w, acts[some].to(device), None if zeros is None else zeros[some])


def shrink_scaled(
    weights: list[Tensor],
    reaches: Sequence[Tensor],
    *,
    l1: float,
    l2: float,
    acts: Tensor,
    zeros: list[Tensor] | None = None,
) -> None:
    """Take the proximal step in another metric, without reading the decisions.

    Args:
        weights: As for :func:`shrink`, and so are ``l1``, ``l2``, ``acts`` and ``zeros``.
        reaches: The sum of learning rates times what the metric multiplies a gradient by.
    """
    for w, reach, act in zip(weights, reaches, acts, strict=True):
        w.copy_(torch.where(act.to(w.device), proximal(w, reach, l1, l2), w))
    _mark(weights, acts, zeros)


def _mark(weights: list[Tensor], acts: Tensor, zeros: list[Tensor] | None) -> None:
    if zeros is None:
        return
    for w, marked, act in zip(weights, zeros, acts.to(weights[0].device), strict=True):
        w.masked_fill_(marked & ~act, 0.0)
        marked.copy_(torch.where(act, w == 0, marked))


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
            w.mul_(max(1 - l2 * dose, 0.0))
        if act and l1:
            w.sub_(w.clamp(-l1 * dose, l1 * dose))
        if zeros is not None and act:
            torch.eq(w, 0, out=zeros[i])
        elif zeros is not None:
            w.masked_fill_(zeros[i], 0.0)
