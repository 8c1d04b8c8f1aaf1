"""Values made of parameters and constants alone, such as ``1 + weight`` or a dequantised matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gamma_nlp.graph.operations import MOVES


@dataclass(frozen=True)
class Expr:
    """A value made of parameters and constants alone: ``slope * parameter + intercept``.

    ``slope`` is ``None`` where it is no such affine function of a single parameter.
    """

    params: frozenset[str]
    slope: float | None = None
    intercept: float = 0.0

    @property
    def offset(self) -> float | None:
        """The gain is proportional to ``parameter + offset``."""
        if self.slope is None or self.slope == 0 or len(self.params) != 1:
            return None
        return self.intercept / self.slope


def combine(
    name: str, args: Sequence[Any], tensors: Sequence[torch.Tensor], exprs: Sequence[Expr | None]
) -> Expr | None:
    """The expression that an operation gives, or ``None`` for a plain constant.

    Args:
        name: The operation.
        args: Its arguments as given.
        tensors: The tensors among them.
        exprs: What each of these tensors is, ``None`` for a constant.
    """
    known = [expr for expr in exprs if expr is not None]
    if not known:
        return None
    inner = known[0]
    params = frozenset(p for expr in known for p in expr.params)
    if len(known) > 1 or inner.slope is None:
        return Expr(params)
    if name in MOVES or name in ("cat", "index"):
        return inner
    if name == "tanh" and inner.intercept == 0:
        return inner  # vanishes where the parameter does, and shrinks with it
    other = _constant(args, tensors, exprs)
    if name == "neg":
        return Expr(params, -inner.slope, -inner.intercept)
    if other is not None and name == "add":
        return Expr(params, inner.slope, inner.intercept + other)
    if other is not None and name == "mul":
        return Expr(params, inner.slope * other, inner.intercept * other)
    return Expr(params)


def _constant(
    args: Sequence[Any], tensors: Sequence[torch.Tensor], exprs: Sequence[Expr | None]
) -> float | None:
    for arg in args:
        if isinstance(arg, (int, float)) and not isinstance(arg, bool):
            return float(arg)
    for tensor, expr in zip(tensors, exprs, strict=True):
        if expr is None and tensor.device.type != "meta" and tensor.numel() > 0:
            first = tensor.detach().flatten()[0].item()
            if tensor.numel() == 1 or bool((tensor == first).all()):
                return float(first) if math.isfinite(first) else None
    return None
