"""Strong regularisation in its plainest form, one tensor at a time, for the tests.

It reads every decision on the host, which waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gamma_nlp.companions.strong.rules import StrongSettings


@torch.no_grad()
def both_gradients(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], settings: StrongSettings
) -> tuple[Tensor, Tensor]:
    """Return g and r of tensors taken as one vector; with L1, without the weights that are 0."""
    w = torch.cat([one.double().flatten() for one in weights])
    g = torch.cat([one.double().flatten() for one in gradients])
    if settings.l1:
        w, g = w[w != 0], g[w != 0]
    return g, settings.l1 * w.sign() + settings.l2 * w


def cosine(g: Tensor, r: Tensor) -> float:
    """Return cos(g, g + r), or 0 where g is 0."""
    length = float(g.norm() * (g + r).norm())
    return float(g @ (g + r)) / length if length else 0.0


@torch.no_grad()
def decide_reference(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], settings: StrongSettings, step: int
) -> list[bool]:
    """Return which tensors to shrink at step number ``step`` (the first is 0)."""
    units = [([w], [g]) for w, g in zip(weights, gradients, strict=True)]
    if settings.scope == "global":
        units = [(list(weights), list(gradients))]
    acts = []
    for w, gradient in units:
        g, r = both_gradients(w, gradient, settings)
        act = {
            "direction": cosine(g, r) >= settings.threshold,
            "magnitude": float(r.norm()) <= settings.ratio * float(g.norm()),
        }.get(settings.rule, True)
        acts.append(act and step >= settings.delay_steps)
    return acts if settings.scope == "tensor" else acts * len(weights)


@torch.no_grad()
def shrink_reference(w: Tensor, dose: float, settings: StrongSettings) -> None:
    """Shrink one tensor, by a sum of learning rates."""
    w.mul_(1 - dose * settings.l2)
    w.copy_(w.sign() * (w.abs() - dose * settings.l1).clamp(min=0))
