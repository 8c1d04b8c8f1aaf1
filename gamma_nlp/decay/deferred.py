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

PROGRESS = ("gamma_due", "gamma_taken", "gamma_calls")
"""Group keys: what is due, how often it was applied, and how many steps were made."""

UNITS = {torch.bfloat16: 2, torch.float16: 8, torch.float32: 64}
"""How many units in the last place of 1 are applied at once, in the mean."""

MOVED = 1 / 8
"""How far a gain is taken to move from its first value, as a share of it: decay toward ``start``,
or toward 1 from near 1, pulls by a share of that distance only, so it is gathered for longer."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def share_of(dtype: torch.dtype, *, near: bool = False) -> float:
    """Return the mean share that is applied at once; 0 for a dtype that needs no deferral."""
    if dtype not in UNITS:
        return 0.0
    return UNITS[dtype] * torch.finfo(dtype).eps / (MOVED if near else 1.0)


def threshold(share: float, taken: int | Tensor) -> Any:
    """Return what has to be due for the next application, when ``taken`` were made."""
    return share * (0.75 + 0.5 * ((taken * _GOLDEN) % 1.0))


def due(
    group: dict[str, Any], coefficient: float | Tensor, keep: Tensor | None
) -> float | Tensor | None:
    """Add one step to what is due, and return the share to apply now; ``None`` for none.

    A tensor among learning rate, coefficient and ``keep`` makes the answer a tensor, 0 for none.
    At the last of ``gamma_last`` steps everything is applied. A step that ``keep`` skips neither
    decays nor counts.
    """
    total = group.get("gamma_due", 0.0)
    mixed = any(isinstance(x, Tensor) for x in (group["lr"], coefficient, keep, total))
    if mixed or group.get("capturable"):
        return _due_there(group, coefficient, keep)
    calls, taken = group.get("gamma_calls", 0) + 1, group.get("gamma_taken", 0)
    total -= math.log1p(-group["lr"] * coefficient)
    now = calls == group["gamma_last"] or total >= threshold(group["gamma_share"], taken)
    group["gamma_calls"] = calls
    group["gamma_due"], group["gamma_taken"] = (0.0, taken + 1) if now else (total, taken)
    return -math.expm1(-total) if now else None


def _due_there(group: dict[str, Any], coefficient: float | Tensor, keep: Tensor | None) -> Tensor:
    """Do the same on the device; in place, so that a captured graph goes on where it was."""
    device = group["params"][0].device
    wide = torch.float32 if device.type == "mps" else torch.float64

    def there(x: float | Tensor) -> Tensor:
        if isinstance(x, Tensor):
            return x.to(device, wide, non_blocking=True).reshape(())
        return torch.full((), x, dtype=wide, device=device)

    for key in PROGRESS:
        group[key] = there(group.get(key, 0.0))
    due, taken, calls = (group[key] for key in PROGRESS)
    counts = there(1.0 if keep is None else keep)
    calls += counts
    due -= torch.log1p(-there(group["lr"]) * there(coefficient)) * counts
    apply = (due >= threshold(group["gamma_share"], taken)) | (calls == group["gamma_last"])
    apply &= counts > 0  # else a run that skips its first or last step would count it as applied
    share = torch.where(apply, -torch.expm1(-due), 0.0).float()
    taken += apply
    due.masked_fill_(apply, 0.0)
    return share


def planned(shares: Tensor, *, share: float, last: int) -> list[float]:
    """Return the shares that :func:`due` applies over a run, in order.

    Args:
        shares: lr * coefficient of every step.
        share: The mean share that is applied at once.
        last: The step at which everything is applied; 0 for none.
    """
    total = torch.log1p(-shares.double()).neg().cumsum(0).tolist()
    end = last - 1 if 0 < last <= len(total) else -1
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
