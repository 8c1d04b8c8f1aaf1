"""Arithmetic on many tensors per call, with numbers or tensors as factors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gamma_nlp.wrappers import mesh_of

Factor = float | Tensor

Centers = float | list[Tensor]
"""What weights decay toward: one number, or a tensor for each."""


def buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Split into what one multi-tensor call can take."""
    found: dict[Any, list[Tensor]] = {}
    for p in parameters:
        found.setdefault((p.device, p.dtype, type(p), mesh_of(p)), []).append(p)
    yield from found.values()


def product(factors: Iterable[Factor | None], device: torch.device) -> Factor:
    """Multiply numbers and tensors; a tensor among them makes one on ``device``."""
    result: Factor = 1.0
    for factor in factors:
        if isinstance(factor, Tensor):
            factor = factor.to(device, non_blocking=True).reshape(())
        if factor is not None:
            result = factor * result
    return result


def multiply_(weights: list[Tensor], factor: Factor) -> None:
    """Multiply in place."""
    if weights[0].device.type != "cpu":
        torch._foreach_mul_(weights, factor)
        return
    for w in weights:  # there a multi-tensor call rounds the factor itself to 16 bits, 1 - a to 1
        w.mul_(factor)


def pull_(weights: list[Tensor], centers: Centers, factor: Factor) -> None:
    """Take the share ``factor`` of the distance from ``centers``: w -= factor * (w - center)."""
    add_(weights, minus(weights, centers), -factor)


def add_(weights: list[Tensor], others: Centers, factor: Factor) -> None:
    """Add ``factor`` times tensors, or times one number, in place."""
    if not isinstance(others, list):
        torch._foreach_add_(weights, others * factor, **_unread(factor))
    elif isinstance(factor, Tensor):  # alpha has to be a number
        torch._foreach_add_(weights, torch._foreach_mul(others, factor))
    else:
        torch._foreach_add_(weights, others, alpha=factor)


def plus(gradients: list[Tensor], others: Centers, factor: Factor) -> list[Tensor]:
    """Return the same as new tensors."""
    if not isinstance(others, list):
        return list(torch._foreach_add(gradients, others * factor, **_unread(factor)))
    if isinstance(factor, Tensor):
        return list(torch._foreach_add(gradients, torch._foreach_mul(others, factor)))
    return list(torch._foreach_add(gradients, others, alpha=factor))  # as torch itself does it


def minus(weights: list[Tensor], centers: Centers) -> list[Tensor]:
    """Return the distances from ``centers``; the weights themselves where that is 0."""
    if isinstance(centers, list):
        return list(torch._foreach_sub(weights, centers))
    return list(torch._foreach_sub(weights, centers)) if centers else weights


def _unread(factor: Factor) -> dict[str, Any]:
    """Return what keeps torch from reading a tensor of one number, which waits for the device."""
    # Without alpha it takes such a tensor for a number. On a CPU that is as well: there a tensor is
    # rounded to the dtype of the others.
    on_device = isinstance(factor, Tensor) and factor.device.type != "cpu"
    return {"alpha": 1} if on_device else {}
