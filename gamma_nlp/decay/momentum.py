"""Where coupled decay takes a parameter: L2 in the gradient, through the momentum of SGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gamma_nlp.decay.rounded import Rounding, exact_ends, rounded_ends
from gamma_nlp.decay.runs import runs_of
from gamma_nlp.decay.samples import whole_vectors

STEPWISE = 20_000
"""So many steps are made one by one."""

TOO_LONG = (
    "coupled decay with momentum in half precision depends on every rounding of the momentum, "
    f"which is followed for {STEPWISE:,} steps at most"
)


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """How an optimizer of SGD's kind makes its step from the decay in the gradient.

    Attributes:
        values: The momentum of every step, or the one of all.
        dampening: As in torch; the first step has none.
        nesterov: As in torch.
        scalar: The dtype that momentum is rounded to before it is multiplied.
        hook: The dtype that the step hook rounds the coefficient to, where each value has a
            center of its own.
        wide: Whether a step is computed in float32 and rounded at its end.
        buffer: The dtype of the momentum buffer; ``None`` for the parameter's.
    """

    values: float | Sequence[float] = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    scalar: torch.dtype = torch.float32
    hook: torch.dtype = torch.float32
    wide: bool = False
    buffer: torch.dtype | None = None

    def of_steps(self, steps: int) -> list[float]:
        """Return the momentum of every step of a run."""
        values = [self.values] * steps if isinstance(self.values, (int, float)) else self.values
        return [float(value) for value in values[:steps]]

    @property
    def any(self) -> bool:
        """Whether there is momentum at all."""
        if isinstance(self.values, (int, float)):
            return self.values != 0
        return any(self.values)


def responses(lrs: Tensor, coefficients: Tensor, momentum: Momentum) -> Tensor:
    """Return the share of the distance that each step takes, while the distance changes slowly."""
    if not momentum.any:
        return lrs * coefficients
    held, shares, rest = 0.0, [], 1 - momentum.dampening
    steps = zip(coefficients.tolist(), momentum.of_steps(len(lrs)), strict=True)
    for number, (pull, m) in enumerate(steps):
        held = m * held + rest * pull if number else pull
        shares.append(pull + m * held if momentum.nesterov else held)
    return lrs * torch.tensor(shares, dtype=torch.float64)


def coupled_ends(
    values: Tensor,
    center: Tensor,
    lrs: Tensor,
    coefficients: Tensor,
    *,
    dtype: torch.dtype,
    momentum: Momentum,
) -> Tensor | None:
    """Return the values after a run; ``None`` where it is too long, see :data:`TOO_LONG`.

    Args:
        values: At the start, in float64.
        center: What they decay toward.
        lrs: The learning rate of every step.
        coefficients: The decay coefficient of every step.
        dtype: Of the parameter.
        momentum: Of the optimizer.
    """
    if len(lrs) <= STEPWISE:
        return _stepwise(values, center, lrs, coefficients, dtype, momentum)
    shares = responses(lrs, coefficients, momentum)
    if dtype == torch.float64:
        return exact_ends(values, center, shares)
    centered = bool(center.any())
    if not momentum.any and not momentum.wide:
        mean = float(coefficients[coefficients > 0].mean())
        rounding = Rounding(dtype=dtype, coefficient=mean, centered="before" if centered else None)
    elif dtype == torch.float32 or not momentum.any:
        # The buffer follows the parameter within a few steps, and keeps its own small numbers.
        rounding = Rounding(dtype=dtype, centered="after" if centered else None)
    else:
        return None
    return rounded_ends(values, center, runs_of(shares, shares), rounding)


def _stepwise(
    values: Tensor,
    center: Tensor,
    lrs: Tensor,
    coefficients: Tensor,
    dtype: torch.dtype,
    momentum: Momentum,
) -> Tensor:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    inner = wide if momentum.wide else dtype
    w, held = whole_vectors(values).to(dtype), None
    toward = (whole_vectors(center) if len(center) > 1 else center).to(wide)
    centered, rest = bool(center.any()), 1 - momentum.dampening
    momenta = momentum.of_steps(len(lrs))
    factors = torch.tensor(momenta, dtype=torch.float64)
    if dtype != torch.float64:
        factors = factors.to(momentum.scalar).double()
    steps = zip(lrs.tolist(), coefficients.tolist(), momenta, factors.tolist(), strict=True)
    nothing = torch.zeros_like(w, dtype=inner)
    for lr, coefficient, m, factor in steps:
        base = nothing
        if centered:
            own = torch.tensor(coefficient, dtype=momentum.hook if len(toward) > 1 else wide)
            base = (toward * -own.to(wide)).to(dtype).to(inner)
        pull = torch.add(base, w.to(inner), alpha=coefficient)
        if momentum.any:
            if held is None:
                held = pull.clone()
            else:
                held = (held.to(wide) * factor).to(inner).add_(pull, alpha=rest)
            pull = torch.add(pull, held, alpha=m) if momentum.nesterov else held
            held = held.to(momentum.buffer or dtype)
        w = torch.add(w.to(inner), pull, alpha=-lr).to(dtype)
    return w[: len(values)].double()
