"""Fit how the settled norms depend on learning rate and decay, and compare with theory.

The simulated loss of each row of w is <noise, w / |w|>, with new noise at every step: of a training
only the size of its gradients is left. The fit is ``log |w| = a + p log(lr) + q log(decay)`` by
least squares, and the same for the effective rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gamma_nlp.companions.effective_rate.rate import effective_lr, equilibrium_norm

ROWS, SIZE, START = 16, 64, 3.0
TURNOVERS = 8.0
"""Length of a simulation in units of its norm's memory; the second half is averaged."""
SETTLED = 3.0
"""A training with at least as many turnovers has settled; others are left out of the fit."""

RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.95)}),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.95)}),
}


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """Exponents of |w| and of the effective rate, each in (lr, decay)."""

    norm: tuple[float, float]
    rate: tuple[float, float]

    def off(self, theory: Exponents) -> float:
        """Return the largest relative difference from theory."""
        mine, other = (*self.norm, *self.rate), (*theory.norm, *theory.rate)
        return max(abs(a / b - 1) for a, b in zip(mine, other, strict=True))


_SGD = Exponents(norm=(1 / 4, -1 / 4), rate=(1 / 2, 1 / 2))
THEORY = {
    "sgd": _SGD,
    "momentum": _SGD,
    "nesterov": _SGD,
    "adam": Exponents(norm=(1 / 3, -1 / 3), rate=(2 / 3, 1 / 3)),
    "adamw": Exponents(norm=(1 / 2, -1 / 2), rate=(1 / 2, 1 / 2)),
}
"""[D] as derived in :mod:`gamma_nlp.companions.effective_rate.rate`."""
ALLOWED = {"sgd": 0.10, "momentum": 0.10, "nesterov": 0.10, "adam": 0.15, "adamw": 0.10}
"""The relative difference from theory up to which a fit agrees with it."""


def simulate(cell: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run the simulated loss to its equilibrium.

    Args:
        cell: ``rule`` (of :data:`RULES`), ``lr``, ``decay``, ``seed``.
        settings: ``turnovers``: how long, 1 being the time in which a norm forgets its start.

    Returns:
        Means over the second half: ``norm``, ``rate``, and the ``angle`` per step (root mean
        square, radians), each beside what is ``predicted``.
    """
    start = time.process_time()
    rule, lr, decay = cell["rule"], float(cell["lr"]), float(cell["decay"])
    cls, more = RULES[rule]
    generator = torch.Generator().manual_seed(int(cell["seed"]))
    w = torch.randn(ROWS, SIZE, generator=generator) * (START / SIZE**0.5)
    optimizer = cls([("w", w.requires_grad_())], lr=lr, weight_decay=decay, **more)
    steps = math.ceil(float(settings["turnovers"]) / _loss_per_step(rule, lr, decay))
    norms, turns = [], []
    for step in range(steps):
        noise = torch.randn(ROWS, SIZE, generator=generator)
        with torch.no_grad():
            length = w.norm(dim=1, keepdim=True)
            unit = w / length
            w.grad = (noise - unit * (noise * unit).sum(1, keepdim=True)) / length
        optimizer.step()
        if step > steps // 2:
            after = w.detach()
            norms.append(after.norm())
            chord = (after / after.norm(dim=1, keepdim=True) - unit).norm(dim=1)
            turns.append(2 * (chord / 2).asin())
    predicted = effective_lr(optimizer)[0]
    norm = float(torch.stack(norms).mean())
    gain = predicted.rate * predicted.norm ** (2 if predicted.rule[0] == "sgd" else 1)
    return {
        "steps": steps,
        "norm": norm,
        "rate": gain / norm ** (2 if predicted.rule[0] == "sgd" else 1),
        "angle": float(torch.stack(turns).square().mean().sqrt()),
        "predicted": {
            "norm": predicted.equilibrium_norm,
            "rate": predicted.equilibrium_rate,
            "angle": predicted.equilibrium_angle,
        },
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def _loss_per_step(rule: str, lr: float, decay: float) -> float:
    """Return the share of the norm that decay removes per step at equilibrium."""
    if rule != "adam":
        return lr * decay / (1 - float(RULES[rule][1].get("momentum", 0.0)))
    # Of all rows together: the gradient's length at |w| = 1, and half the angle's square.
    slope = ROWS * math.sqrt(SIZE - 1)
    settled = equilibrium_norm(
        "adam", "coupled", lr=lr, decay=decay, unit_gradient=slope, elements=ROWS * SIZE
    )
    return (lr / settled) ** 2 * ROWS * SIZE / 2


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one run measured for one tensor.

    Attributes:
        tensor: The tensor's name; each has an intercept of its own.
        lr: Learning rate.
        decay: Decay coefficient.
        norm: Measured |w|.
        predicted: |w| at equilibrium, predicted from the size of the run's gradients.
        rate: Measured effective learning rate.
    """

    tensor: str
    lr: float
    decay: float
    norm: float
    predicted: float
    rate: float


def fit(points: Sequence[Point]) -> Exponents | None:
    """Fit exponents common to all tensors by least squares; ``None`` if the points are too few."""
    tensors = sorted({point.tensor for point in points})
    rows = [
        [math.log(p.lr), math.log(p.decay), *(float(p.tensor == name) for name in tensors)]
        for p in points
    ]
    if not rows or torch.linalg.matrix_rank(torch.tensor(rows).double()) < len(rows[0]):
        return None
    logs = [[math.log(p.norm), math.log(p.rate)] for p in points]
    found = torch.linalg.lstsq(torch.tensor(rows).double(), torch.tensor(logs).double()).solution
    (norm_lr, rate_lr), (norm_decay, rate_decay) = found[:2].tolist()
    return Exponents(norm=(norm_lr, norm_decay), rate=(rate_lr, rate_decay))
