"""Deferred decay: gather what rounding would cancel, and apply it in one larger step.

A step of decay below half a unit in the last place of a parameter changes nothing, and one of a few
units is rounded to a whole number of them, always in the same direction. So the hook keeps the
decay that is due, per group, as -log(1 - a) summed over the steps, and applies it as one factor
when it reaches a share of the parameter that is a few such units. The share varies around its mean
by the golden ratio, so that the roundings of many applications cancel instead of adding up.

No copy of a parameter is kept, nothing is drawn at random, and tensors stay on their device.
"""

from __future__ import annotations

import bisect
import math
from typing import Any

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError

UNITS = {torch.bfloat16: 2, torch.float16: 8, torch.float32: 64}
"""How many units in the last place of 1 are applied at once, in the mean."""

MOVED = 1 / 8
"""How far from its first value a gain is taken to be, as a share of it: decay toward ``start``
pulls by a share of that distance only, so it is gathered for longer."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def share_of(dtype: torch.dtype, *, to_start: bool = False) -> float:
    """Return the mean share that is applied at once; 0 for a dtype that needs no deferral."""
    if dtype not in UNITS:
        return 0.0
    return UNITS[dtype] * torch.finfo(dtype).eps / (MOVED if to_start else 1.0)


def threshold(share: float, taken: int | Tensor) -> Any:
    """Return what has to be due for the next application, when ``taken`` were made."""
    return share * (0.75 + 0.5 * ((taken * _GOLDEN) % 1.0))


def due(
    group: dict[str, Any], coefficient: float | Tensor, keep: Tensor | None
) -> float | Tensor | None:
    """Add one step to what is due, and return the share to apply now; ``None`` for none.

    A tensor among learning rate, coefficient and ``keep`` makes the answer a tensor, 0 for none.
    At the last of ``gamma_last`` steps everything is applied.

    Raises:
        GammaError: The step would decay by everything.
    """
    calls = group["gamma_calls"] = group.get("gamma_calls", 0) + 1
    last = calls == group["gamma_last"]
    total, taken = group.get("gamma_due", 0.0), group.get("gamma_taken", 0)
    tensors = [x for x in (group["lr"], coefficient, keep, total) if isinstance(x, Tensor)]
    if not tensors:
        a = group["lr"] * coefficient
        if a >= 1:
            raise GammaError(
                f"lr * weight_decay is {a:g}: one step would decay by the whole distance or more; "
                "lower the weight decay or the learning rate"
            )
        total -= math.log1p(-a)
        now = last or total >= threshold(group["gamma_share"], taken)
        group["gamma_due"], group["gamma_taken"] = (0.0, taken + 1) if now else (total, taken)
        return -math.expm1(-total) if now else None
    device = group["params"][0].device
    wide = torch.float32 if device.type == "mps" else torch.float64

    def there(x: Any) -> Tensor:
        return torch.as_tensor(x, dtype=wide).to(device, non_blocking=True)

    step = -torch.log1p(-there(group["lr"]) * there(coefficient))
    total = there(total) + (step if keep is None else step * there(keep))
    taken = there(taken)
    apply = (total >= threshold(group["gamma_share"], taken)) | last
    group["gamma_due"] = torch.where(apply, torch.zeros_like(total), total)
    group["gamma_taken"] = taken + apply
    return torch.where(apply, -torch.expm1(-total), torch.zeros_like(total)).float()


def planned(shares: Tensor, *, share: float, last: int) -> list[float]:
    """Return the shares that :func:`due` applies over a run, in order.

    Args:
        shares: lr * coefficient of every step.
        share: The mean share that is applied at once.
        last: The step at which everything is applied; 0 for none.
    """
    total = torch.log1p(-shares.double()).neg().cumsum(0).tolist()
    end = min(last, len(total)) - 1 if last else -1
    applied: list[float] = []
    at, before = 0, 0.0
    while at < len(total):
        found = bisect.bisect_left(total, before + threshold(share, len(applied)), lo=at)
        if at <= end < found:
            found = end
        if found == len(total):
            break
        applied.append(-math.expm1(before - total[found]))
        at, before = found + 1, total[found]
    return applied
