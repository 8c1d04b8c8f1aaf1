"""By which law decay acts on a parameter, and where it takes the parameter's values in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gamma_nlp.decay import deferred
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.momentum import Momentum, coupled_ends, responses
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.rounded import Rounding, exact_ends, rounded_ends
from gamma_nlp.decay.runs import runs_of
from gamma_nlp.decay.samples import Sample, whole_vectors
from gamma_nlp.decay.schedule import multipliers

FOLLOWED = 4_096
"""So many applications of deferred decay are followed; the roundings of more cancel."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """How a parameter decays.

    Attributes:
        dtype: Of the parameter.
        mode: How decay acts.
        center: What the parameter decays toward.
        hooked: Whether the step hook does all of it, and the optimizer none.
        factor: The dtype that 1 - a is rounded to, where the parameter is multiplied by it;
            ``None`` where a times the parameter is subtracted.
        scalar: The dtype that the step hook's numbers are rounded to.
        share: The mean share of deferred decay; 0 where decay is not deferred.
        last: The step at which all that is deferred is applied; 0 for none.
        momentum: For coupled decay.
    """

    dtype: torch.dtype
    mode: Native = "decoupled"
    center: float | Literal["start"] = 0.0
    hooked: bool = False
    factor: torch.dtype | None = torch.float32
    scalar: torch.dtype = torch.float32
    share: float = 0.0
    last: int = 0
    momentum: Momentum = field(default_factory=Momentum)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Learning rate and decay coefficient of every step of a run, in float64."""

    lrs: Tensor
    coefficients: Tensor

    @property
    def shares(self) -> Tensor:
        """What a decoupled step takes."""
        return self.lrs * self.coefficients


def planned_steps(decay: Decay, lrs: Tensor) -> Steps:
    """Return the steps of a whole run with these learning rates, in float64."""
    schedule = decay.schedule
    factors = multipliers(
        schedule.kind,
        lrs,
        peak=float(lrs.max()) if len(lrs) else 0.0,
        end=schedule.end,
        steps=schedule.steps or len(lrs),
    )
    return Steps(lrs=lrs, coefficients=decay.coefficient * factors)


def pulls(
    samples: Sequence[Sample],
    law: Law,
    steps: Steps,
    *,
    exactly: bool = False,
    coarse: float = 1.0,
) -> list[float | None]:
    """Return the part of the distance to its center that each sample loses over a run.

    For the center ``start`` the distance is 0 at first; it is the part of a displacement by
    :data:`.deferred.MOVED` of each value.

    Args:
        samples: The values, of parameters of one law.
        law: How they decay.
        steps: Of the run.
        exactly: Leave out all rounding.
        coarse: See :func:`.runs.runs_of`.

    Returns:
        The parts; ``None`` where they are not known.
    """
    samples = [one.displaced(law.center, law.dtype) for one in samples]
    values = torch.cat([one.values for one in samples])
    values, places = torch.unique(values, return_inverse=True)
    center = values if law.center == "start" else torch.tensor([law.center], dtype=torch.float64)
    start = values
    if law.center == "start":
        start = ((1 + deferred.MOVED) * values).to(law.dtype).double()
    if exactly:
        ends: Tensor | None = _exactly(start, center, law, steps)
    else:
        ends = _ends(start, center, law, steps, coarse)
    if ends is None:
        return [None] * len(samples)
    sizes = [len(one.values) for one in samples]
    before = (start - center).abs()[places].split(sizes)
    after = (ends - center).abs()[places].split(sizes)
    wholes = [float((one.counts * own).sum()) for one, own in zip(samples, before, strict=True)]
    left = [float((one.counts * own).sum()) for one, own in zip(samples, after, strict=True)]
    return [1 - rest / whole if whole else 0.0 for rest, whole in zip(left, wholes, strict=True)]


def _ends(start: Tensor, center: Tensor, law: Law, steps: Steps, coarse: float) -> Tensor | None:
    if law.mode == "coupled":
        return coupled_ends(
            start, center, steps.lrs, steps.coefficients, dtype=law.dtype, momentum=law.momentum
        )
    if law.share:
        return _deferred_ends(start, center, law, steps)
    if law.dtype == torch.float64:
        return exact_ends(start, center, steps.shares)
    centered = bool(center.any())
    by_distance = law.hooked and centered
    rounding = Rounding(
        dtype=law.dtype,
        factor=None if by_distance else law.factor,
        alpha=law.scalar,
        centered=None if not centered else "after" if law.hooked else "before",
    )
    shares = steps.shares
    runs = runs_of(shares, rounding.taken(shares), coarse=coarse)
    return rounded_ends(start, center, runs, rounding)


def _deferred_ends(start: Tensor, center: Tensor, law: Law, steps: Steps) -> Tensor:
    applied = deferred.planned(steps.shares, share=law.share, last=law.last)
    if len(applied) > FOLLOWED or law.dtype == torch.float64:
        return exact_ends(start, center, torch.tensor(applied, dtype=torch.float64))
    w = whole_vectors(start).to(law.dtype)
    toward = (whole_vectors(center) if len(center) > 1 else center).to(law.dtype)
    for share in applied:
        w = w.add(w - toward, alpha=-share)
    return w[: len(start)].double()


def _exactly(start: Tensor, center: Tensor, law: Law, steps: Steps) -> Tensor:
    shares = steps.shares
    if law.mode == "coupled":
        shares = responses(steps.lrs, steps.coefficients, law.momentum)
    return exact_ends(start, center, shares.clamp(max=1.0))
