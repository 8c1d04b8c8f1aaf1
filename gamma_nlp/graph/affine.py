"""Values made of parameters and constants alone, such as ``1 + weight`` or a dequantised matrix.

Models rarely multiply by a parameter as it is stored. The trace follows each parameter through
such steps as ``k * w + c``, with one slope k and one intercept c for all elements::

    w ──▶ w.float() ──▶ 1 + w ──▶ 2 * (1 + w)            what the model computes
    1*w + 0  1*w + 0    1*w + 1    2*w + 2               slope * w + intercept

    signal * (2*w + 2)  =  2 * signal * (w + 1)          offset = intercept / slope = 1

The product vanishes at w = -offset. So ``w`` is a gain with offset 0, ``1 + w`` one with offset 1,
and decay that pulls the gain to 0 pulls w to -offset. The slope itself is a constant factor and
moves no gain to another place.

A value of several parameters, or of one through anything but these steps (``exp(w)``, ``w * w``),
keeps the names of its parameters and loses its slope: it can still be a weight or a bias, but no
longer a gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gamma_nlp.graph.operations import MOVES
from gamma_nlp.graph.parts import Parts


@dataclass(frozen=True)
class Expr:
    """A value made of parameters and constants alone: ``slope * parameter + intercept``.

    ``slope`` is ``None`` where the value is not of this form; ``parts`` says what each parameter
    does in it.
    """

    params: frozenset[str]
    slope: float | None = None
    intercept: float = 0.0
    parts: Parts | None = field(default=None, compare=False)

    @property
    def contracted(self) -> frozenset[str]:
        """The parameters that are weights where the value is contracted with the signal."""
        return self.params if self.parts is None else self.parts.contracted

    @property
    def added(self) -> frozenset[str]:
        """The parameters that are biases or tables where the value is added to the signal."""
        return self.params if self.parts is None else self.parts.added

    @property
    def offset(self) -> float | None:
        """The c with which the value is proportional to ``parameter + c``; ``None`` without one."""
        if self.slope is None or self.slope == 0 or len(self.params) != 1:
            return None
        return self.intercept / self.slope


def combine(
    name: str, args: Sequence[Any], tensors: Sequence[torch.Tensor], exprs: Sequence[Expr | None]
) -> Expr | None:
    """Return what an operation on parameters and constants gives, ``None`` for a constant.

    Args:
        name: The operation.
        args: Its arguments.
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
        return inner  # a gain tanh(w) vanishes where w does, and shrinks with it
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
    """Return the one number that the other operand holds, a filled tensor included."""
    for arg in args:
        if isinstance(arg, (int, float)) and not isinstance(arg, bool):
            return float(arg)
    for tensor, expr in zip(tensors, exprs, strict=True):
        if expr is None and tensor.device.type != "meta" and tensor.numel() > 0:
            first = tensor.detach().flatten()[0].item()
            if tensor.numel() == 1 or bool((tensor == first).all()):
                return float(first) if math.isfinite(first) else None
    return None
