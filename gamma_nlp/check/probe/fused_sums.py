"""Operations that are a sum and a product at once, split so that each part can be held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _sum_and_product(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def split(bias: Tensor, one: Tensor, two: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        result = product(one, two)
        result = result if alpha == 1 else result * alpha
        return bias + result if beta == 1 else bias * beta + result

    return split


def _addcmul(start: Tensor, one: Tensor, two: Tensor, *, value: Any = 1) -> Tensor:
    return start + (one * two if value == 1 else value * one * two)


def _addcdiv(start: Tensor, one: Tensor, two: Tensor, *, value: Any = 1) -> Tensor:
    return start + (one / two if value == 1 else value * one / two)


def _lerp(start: Tensor, end: Tensor, weight: Any) -> Tensor:
    return (1 - weight) * start + weight * end


FUSED_SUMS: dict[str, Callable[..., Tensor]] = {
    "addmm": _sum_and_product(torch.mm),
    "_sparse_addmm": _sum_and_product(torch.mm),
    "baddbmm": _sum_and_product(torch.bmm),
    "addbmm": _sum_and_product(lambda one, two: torch.bmm(one, two).sum(0)),
    "addmv": _sum_and_product(torch.mv),
    "addr": _sum_and_product(torch.outer),
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "lerp": _lerp,
}


def in_parts(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the same result, written where the operation would have written it."""
    out = kwargs.pop("out", args[0] if func._schema.is_mutable else None)
    result = FUSED_SUMS[name](*args, **kwargs)
    if out is None:
        return result
    if out.shape != result.shape:
        out.resize_(result.shape)
    written: Tensor = out.copy_(result)
    return written
