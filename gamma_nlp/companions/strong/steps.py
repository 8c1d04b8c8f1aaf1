"""Measure two steps in w: what the optimizer took for the loss, and what the penalty would take.

:mod:`.rules` says what g and r are. Taking g from the weights and not from the gradient makes it
right for any optimizer, and for whatever scales, clips or reverses gradients before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.companions.strong.metric import reaches
from gamma_nlp.companions.strong.rules import StrongSettings
from gamma_nlp.companions.strong.shrink import bundles, proximal
from gamma_nlp.companions.strong.targets import vector
from gamma_nlp.decay.known_optimizers import NATIVE, native_mode, qualified

MUON = "torch.optim.Muon"
"""Decays apart too; no gain can be in it, so policies know nothing of it."""


def compare(
    optimizer: Optimizer,
    places: Sequence[tuple[int, int]],
    before: list[Tensor],
    after: list[Tensor],
    settings: StrongSettings,
) -> Tensor:
    """Return |g|**2, <g, r> and |r|**2 of each tensor.

    Args:
        optimizer: The optimizer, just after its step.
        places: The tensors' groups and indices in it.
        before: The tensors before the step.
        after: The same after it.
        settings: The penalty and the metric.

    Returns:
        float32 of shape [tensors, 3], on the first tensor's device.
    """
    l1, l2, rows = settings.l1, settings.l2, []
    for some in bundles(before):
        w, groups = before[some], [optimizer.param_groups[group] for group, _ in places[some]]
        start = [less_decay(one, optimizer, of) for one, of in zip(w, groups, strict=True)]
        steps = list(torch._foreach_sub(start, after[some]))
        rates = [group["lr"] for group in groups]
        if settings.metric == "euclidean":
            lr = vector(rates, w[0].device).unsqueeze(1)
            units = torch.cat([torch.ones_like(lr), lr, lr.square()], dim=1)
            rows.append(measure(w, steps, l1=l1, l2=l2) * units)
        else:
            far = reaches(optimizer, places[some], rates)
            rows.append(measure_scaled(w, steps, far, l1=l1, l2=l2))
    return torch.cat([row.to(before[0].device) for row in rows])


def less_decay(w: Tensor, optimizer: Optimizer, group: Mapping[str, Any]) -> Tensor:
    """Return ``w`` as the optimizer's own decoupled decay leaves it: that is no step of the loss.

    SGD's coupled decay is no different without momentum. Any other is a part of the gradient, of
    its moments and so of the step.
    """
    decay = group.get("weight_decay")
    cls = type(optimizer)
    if not decay or not cls.__module__.startswith("torch.optim"):
        return w
    name = qualified(cls)
    apart = name == MUON or (name in NATIVE and native_mode(cls, group) == "decoupled")
    if cls is torch.optim.SGD:
        apart = not group["momentum"]
    return w * (1 - group["lr"] * decay) if apart else w


def measure(weights: list[Tensor], steps: list[Tensor], *, l1: float, l2: float) -> Tensor:
    """Return |g|**2, <g, r> and |r|**2 of each tensor, with r for a learning rate of 1.

    Args:
        weights: The tensors before the step, of one dtype and device.
        steps: What the optimizer took from each of them: g.
        l1: Coefficient of L1.
        l2: Coefficient of L2.

    Returns:
        float32 of shape [tensors, 3], on the tensors' device.
    """
    if l1:
        signs = torch._foreach_sign(weights)
        penalty_square = l1**2 * _norms(signs).square()
        torch._foreach_mul_(signs, steps)
        loss_square = _norms(signs).square()
        dot = l1 * torch.stack([one.sum(dtype=_wide(one)) for one in signs]).float()
    else:
        loss_square = _norms(steps).square()
        dot, penalty_square = torch.zeros_like(loss_square), torch.zeros_like(loss_square)
    if l2:
        dot += l2 * _dots(steps, weights)
        penalty_square += l2**2 * _norms(weights).square()
    if l1 and l2:
        penalty_square += 2 * l1 * l2 * _norms(weights, 1)
    return torch.stack([loss_square, dot, penalty_square], dim=1)


def measure_scaled(
    weights: list[Tensor], steps: list[Tensor], reaches: Sequence[Tensor], *, l1: float, l2: float
) -> Tensor:
    """Return the same in another metric, where r is what the proximal step takes.

    Args:
        weights: As for :func:`measure`.
        steps: As for :func:`measure`.
        reaches: The learning rate times what the metric multiplies a gradient by.
        l1: Coefficient of L1.
        l2: Coefficient of L2.
    """
    rows = []
    for w, g, reach in zip(weights, steps, reaches, strict=True):
        r = w - proximal(w, reach, l1, l2)
        g = g * w.sign().abs() if l1 else g
        rows.append(torch.cat([_norms([g]).square(), _dots([g], [r]), _norms([r]).square()]))
    return torch.stack(rows)


def _norms(tensors: Sequence[Tensor], order: int = 2) -> Tensor:
    found = torch._foreach_norm(list(tensors), order, dtype=_wide(tensors[0]))
    return torch.stack(list(found)).float()


def _dots(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    # A dot product of half-precision tensors would be rounded to half precision.
    wide = _wide(first[0])
    pairs = [
        torch.dot(a.reshape(-1).to(wide), b.reshape(-1).to(wide))
        for a, b in zip(first, second, strict=True)
    ]
    return torch.stack(pairs).float()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
