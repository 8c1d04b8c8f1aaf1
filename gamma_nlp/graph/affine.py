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
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gamma_nlp.graph.operations import MOVES
from gamma_nlp.graph.parts import Parts


@dataclass(frozen=True)
class Expr:
    """A value made of parameters and constants alone: ``slope * parameter + intercept``.

    Attributes:
        params: The parameters in it.
        slope: The factor; ``None`` where the value is not of this form.
        intercept: The summand.
        uniform: Whether the factor is the same for all elements. Where it is not, as with a
            mask, ``slope`` stands for any of them, and a constant summand ends the form.
        root: Whether a root of the model's own statistics is among its factors, as in a batch
            norm that is written out.
        parts: What each parameter does in it.
    """

    params: frozenset[str]
    slope: float | None = None
    intercept: float = 0.0
    uniform: bool = True
    root: bool = False
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
    name: str,
    args: Sequence[Any],
    tensors: Sequence[torch.Tensor],
    exprs: Sequence[Expr | None],
    *,
    alpha: float = 1.0,
    root: bool = False,
) -> Expr | None:
    """Return what an operation on parameters and constants gives, ``None`` for a constant.

    Args:
        name: The operation.
        args: Its arguments.
        tensors: The tensors among them.
        exprs: What each of these tensors is, ``None`` for a constant.
        alpha: What ``add`` and ``sub`` multiply their second operand by.
        root: Whether a root of the model's own statistics is among the constants.
    """
    found = _combine(name, args, tensors, exprs, alpha)
    scales = name in ("mul", "div") and found is not None
    return replace(found, root=True) if found and scales and root else found


def _combine(
    name: str,
    args: Sequence[Any],
    tensors: Sequence[torch.Tensor],
    exprs: Sequence[Expr | None],
    alpha: float,
) -> Expr | None:
    known = [expr for expr in exprs if expr is not None]
    if not known:
        return None
    inner = known[0]
    params = frozenset(p for expr in known for p in expr.params)
    if len(known) > 1 or inner.slope is None:
        return Expr(params, root=any(expr.root for expr in known))
    if name in MOVES or name in ("cat", "index"):
        return inner
    if name in _SHRINK and inner.intercept == 0:
        return inner  # a gain tanh(w) vanishes where w does, and shrinks with it
    first = bool(exprs) and exprs[0] is not None and (not args or isinstance(args[0], torch.Tensor))
    other = _constant(args, tensors, exprs)
    if name == "neg":
        return _scaled(inner, -1.0)
    if name == "mul" or (name == "div" and first):
        if other is not None and (other != 0 or name == "mul"):
            return _scaled(inner, other if name == "mul" else 1 / other)
        masked = inner.intercept == 0 and other is None
        return replace(inner, uniform=False) if masked else Expr(params, root=inner.root)
    if name in ("masked_fill", "where") and inner.intercept == 0 and other in (0, None):
        return replace(inner, uniform=False)
    if other is None or not inner.uniform or name not in ("add", "sub", "rsub"):
        return Expr(params, root=inner.root)
    if name == "rsub" or (name == "sub" and not first):  # a constant minus the value
        scaled = _scaled(inner, -1.0 if name == "rsub" else -alpha)
        return replace(scaled, intercept=scaled.intercept + other)
    if name == "add" and not first:
        scaled = _scaled(inner, alpha)
        return replace(scaled, intercept=scaled.intercept + other)
    shift = alpha * other if name == "add" else -alpha * other
    return replace(inner, intercept=inner.intercept + shift)


_SHRINK = ("tanh", "abs", "erf", "atan", "asinh", "sinh")


def _scaled(expr: Expr, factor: float) -> Expr:
    assert expr.slope is not None
    return replace(expr, slope=expr.slope * factor, intercept=expr.intercept * factor)


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
