"""Strong regularisation in its plainest form, one tensor at a time, for the tests.

It reads every decision on the host, which waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gamma_nlp.companions.strong.rules import StrongSettings


@torch.no_grad()
def both_steps(
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    reaches: Sequence[float | Tensor],
    settings: StrongSettings,
) -> tuple[Tensor, Tensor]:
    """Return g and r of tensors taken as one vector; with L1, without the weights that are 0.

    Args:
        before: The tensors before the optimizer's step.
        after: The same after it, without what its own decay took.
        reaches: The learning rate of each, in another metric times what that makes of a gradient.
        settings: The penalty.
    """
    gs, rs = [], []
    for old, new, reach in zip(before, after, reaches, strict=True):
        w = old.double().clone()
        g = w - new.double()
        if settings.metric == "euclidean":
            r = reach * (settings.l1 * w.sign() + settings.l2 * w)
        else:
            shrunk = w.clone()
            shrink_reference(shrunk, reach, settings)
            r = w - shrunk
        chosen = w != 0 if settings.l1 else torch.ones_like(w, dtype=torch.bool)
        gs.append(g[chosen])
        rs.append(r[chosen])
    return torch.cat(gs), torch.cat(rs)


def cosine(g: Tensor, r: Tensor) -> float:
    """Return cos(g, g + r), or 0 where g is 0."""
    length = float(g.norm() * (g + r).norm())
    return float(g @ (g + r)) / length if length else 0.0


@torch.no_grad()
def decide_reference(
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    reaches: Sequence[float | Tensor],
    settings: StrongSettings,
    step: int,
) -> list[bool]:
    """Return which tensors to shrink at step number ``step`` (the first is 0)."""
    parts = list(zip(before, after, reaches, strict=True))
    units = [parts] if settings.scope == "global" else [[part] for part in parts]
    acts = []
    for unit in units:
        old, new, reach = zip(*unit, strict=True)
        g, r = both_steps(old, new, reach, settings)
        act = {
            "direction": cosine(g, r) >= settings.threshold,
            "magnitude": float(r.norm()) <= settings.ratio * float(g.norm()),
        }.get(settings.rule, True)
        acts.append(act and step >= settings.delay_steps)
    return acts if settings.scope == "tensor" else acts * len(parts)


@torch.no_grad()
def shrink_reference(w: Tensor, reach: float | Tensor, settings: StrongSettings) -> None:
    """Shrink one tensor, by a sum of learning rates, in another metric times its factors."""
    if settings.metric == "euclidean":
        w.mul_(max(1 - reach * settings.l2, 0))
        w.copy_(w.sign() * (w.abs() - reach * settings.l1).clamp(min=0))
    else:
        soft = w.sign() * (w.abs() - reach * settings.l1).clamp(min=0)
        w.copy_(soft / (1 + reach * settings.l2))
