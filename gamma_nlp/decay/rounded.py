"""Where decay takes a parameter that is rounded to its dtype after every step.

A step is a whole number of units in the last place, and stays that number until the parameter
passes a threshold or a power of two. So nothing is simulated step by step: each value jumps from
one such event to the next, and where a step has hundreds of units rounding is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gamma_nlp.decay.runs import Run

_MANY = 128
"""Rounding of steps of more units than this is left out: at most half of one in 128."""


_FEW = 16
"""So many steps are quicker made than skipped."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """How one step of decay is computed.

    Attributes:
        dtype: Of the parameter.
        factor: The dtype that 1 - a is rounded to, where w is multiplied by it; ``None`` where
            a * w is subtracted.
        centered: ``None`` if the center is 0; ``before`` if a share of it is added before a step
            toward 0; ``after`` if the distance to it is computed, and a share of that subtracted.
        alpha: The dtype that numbers are rounded to before they meet the center: a where a times
            the distance to it is subtracted, or what is added for it.
        coefficient: Of coupled decay, which rounds ``coefficient * w`` to the dtype; 0 if it
            does not.
    """

    dtype: torch.dtype
    factor: torch.dtype | None = None
    centered: Literal["before", "after"] | None = None
    alpha: torch.dtype = torch.float64
    coefficient: float = 0.0

    def round(self, x: Tensor) -> Tensor:
        """Round float64 to the dtype, and return it in float64."""
        return x.to(self.dtype).double()

    def taken(self, shares: Tensor) -> Tensor:
        """Return the shares that steps take, given those that they should take."""
        if self.factor is None:
            return shares if self.centered != "after" else shares.to(self.alpha).double()
        return 1.0 - (1.0 - shares).to(self.factor).double()

    def step(self, w: Tensor, run: Run, center: Tensor) -> Tensor:
        """Return ``w`` after one step toward ``center``, as it is rounded."""
        if self.coefficient:
            pull = self.round(self.round(-self.coefficient * center) + self.coefficient * w)
            return self.round(w - run.share / self.coefficient * pull)
        if self.centered is None:
            return self.round(w * (1 - run.taken))
        if self.centered == "after":
            return self.round(w - run.taken * self.round(w - center))
        moved = self.round(w + self.toward(center, run.share))
        return self.round(moved * (1 - run.taken))

    def toward(self, center: Tensor, share: float) -> Tensor:
        """Return what is added for a center before a step toward 0."""
        factor = torch.tensor(share / (1 - share) if share < 1 else 0.0, dtype=torch.float64)
        if len(center) == 1:  # one number, whose product is rounded
            return (center * factor).to(self.alpha).double()
        return center * factor.to(self.alpha).double()


def exact_ends(values: Tensor, center: Tensor | float, shares: Tensor) -> Tensor:
    """Return the values after steps that take ``shares`` of the distance, without rounding."""
    return center + (values - center) * math.exp(float(torch.log1p(-shares).sum()))


def rounded_ends(values: Tensor, center: Tensor, runs: Sequence[Run], rounding: Rounding) -> Tensor:
    """Return the values after all runs.

    Args:
        values: At the start, in float64, on the grid of the dtype.
        center: What they decay toward: one number, or one for each.
        runs: Share and number of steps, in order.
        rounding: How a step is computed.
    """
    w = values
    for run in runs:
        if run.steps <= _FEW:
            for _ in range(run.steps):
                w = rounding.step(w, run, center)
        elif run.share:
            w = _advance(w, center, run, rounding)
    return w


def _advance(w: Tensor, center: Tensor, run: Run, rounding: Rounding) -> Tensor:
    """Make the equal steps of a run."""
    left = torch.full_like(w, run.steps)
    toward_zero = not center.any()
    many = (1 if toward_zero else 2) * _MANY
    while bool((left > 0).any()):
        step = rounding.step(w, run, center) - w
        exponent = torch.frexp(w).exponent
        unit = _unit(exponent, rounding.dtype)
        still = step == 0
        large = step.abs() > many * unit
        jump = torch.where(still, left, 1.0)
        after = w + step
        if bool((~(still | large)).any()):
            found = _equal_steps(w, step, center, exponent, unit, run, rounding)
            jump = torch.where(still | large, jump, torch.minimum(found, left))
            after = w + jump * step
        if bool(large.any()):
            far = left if toward_zero else _large_steps(w, step, center, run, rounding)
            jump = torch.where(large, torch.minimum(far, left), jump)
            exact = _exact(w, step, center, jump, run, rounding)
            after = torch.where(large, rounding.round(exact), after)
        w, left = torch.where(left > 0, after, w), left - torch.where(left > 0, jump, 0.0)
    return w


def _exact(
    w: Tensor, step: Tensor, center: Tensor, steps: Tensor, run: Run, rounding: Rounding
) -> Tensor:
    if rounding.centered == "before" and not rounding.coefficient:
        if not run.taken:
            return w + steps * step
        # The rounding of the factor moves the point where the two parts of a step cancel.
        center = rounding.toward(center, run.share) * (1 - run.taken) / run.taken
    return center + (w - center) * (1 - run.taken) ** steps


def _unit(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the distance of neighbours between 2 ** (exponent - 1) and 2 ** exponent."""
    limits = torch.finfo(dtype)
    unit = torch.ldexp(torch.full_like(exponent, limits.eps, dtype=torch.float64), exponent - 1)
    return unit.clamp(min=limits.tiny * limits.eps)


def _equal_steps(
    w: Tensor,
    step: Tensor,
    center: Tensor,
    exponent: Tensor,
    unit: Tensor,
    run: Run,
    rounding: Rounding,
) -> Tensor:
    """Return how many steps in a row equal the first one, at least 1."""
    if rounding.centered == "before" and not rounding.coefficient:
        before = rounding.round(w + rounding.toward(center, run.share)) - w
        pull = -run.taken * (w + before)
    else:
        before, pull = torch.zeros_like(w), -run.taken * (w - center)
    # A step is a constant and the whole number of units next to pull / unit. That falls by
    # taken * step / unit at each step, and the number stays while it is within half a unit.
    edge = (step - before) / unit - 0.5 * step.sign()
    within = (pull / unit - edge) / (run.taken * step / unit)
    size = torch.ldexp(torch.ones_like(w), exponent - 1)
    room = torch.where(step.sign() == w.sign(), 2 * size - w.abs(), w.abs() - size) / step.abs()
    whole = torch.minimum(within.floor() + 1, room.floor())
    # A step of 0 has no number of its own.
    whole = torch.where(step == 0, 1.0, whole).clamp(min=1.0)
    for attempt in range(4):
        last = w + (whole - 1) * step
        wrong = (whole > 1) & (rounding.step(last, run, center) - last != step)
        if not bool(wrong.any()):
            return whole
        fewer = whole - 1 if attempt == 0 else (whole / 2).floor()
        whole = torch.where(wrong, fewer.clamp(min=1.0), whole)
    return torch.where(wrong, 1.0, whole)


def _large_steps(w: Tensor, step: Tensor, center: Tensor, run: Run, rounding: Rounding) -> Tensor:
    """Return for how many steps toward a center other than 0 a step keeps many units."""
    if run.share >= 1:
        return torch.ones_like(w)
    halved = max(1.0, math.floor(math.log(0.5) / math.log1p(-run.share)))
    # Until the distance is halved, a step has many units wherever |w| is below this.
    unit = torch.ldexp(torch.ones_like(w), torch.frexp(step.abs() / (2 * _MANY)).exponent - 1)
    bound = step.sign() * 2 * unit / torch.finfo(rounding.dtype).eps
    left = (bound - center) / (w - center)
    before = (left.clamp(min=1e-300).log() / math.log1p(-run.share)).floor()
    return torch.where((left > 0) & (left < 1), before, halved).clamp(1.0, halved)
