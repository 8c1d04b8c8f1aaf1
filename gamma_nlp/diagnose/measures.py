"""What is measured of one gain, and how the measures of many become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR_ZERO = 0.05
"""A gain below this, by its absolute value, counts as near 0: most of its channel is shut."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One gain, or several, in one checkpoint; nan where a value is not finite.

    Attributes:
        numel: The number of values.
        rms: The root mean square of the gain, which is offset + parameter.
        largest: The largest absolute value.
        channel: Where in the gain it is; ``None`` for several gains.
        near_zero: The share of values near 0.
        broken: The number of values that are nan or infinite.
    """

    numel: int
    rms: float
    largest: float
    channel: int | None
    near_zero: float
    broken: int


def measure(parts: Sequence[Tensor], offset: float, near: float = NEAR_ZERO) -> Measure:
    """Measure a gain that is stored in one part or in several."""
    gain = torch.cat([part.detach().to(torch.float64).flatten() for part in parts]) + offset
    size = gain.abs()
    broken = int((~gain.isfinite()).sum())
    if broken or not len(gain):
        nan = math.nan
        return Measure(
            numel=len(gain), rms=nan, largest=nan, channel=None, near_zero=nan, broken=broken
        )
    channel = int(size.argmax())
    return Measure(
        numel=len(gain),
        rms=float(gain.square().mean().sqrt()),
        largest=float(size[channel]),
        channel=channel,
        near_zero=float((size < near).double().mean()),
        broken=0,
    )


def joined(measures: Sequence[Measure]) -> Measure:
    """Return the measure of all values of several gains together."""
    numel = sum(one.numel for one in measures)
    largest = [one.largest for one in measures]
    return Measure(
        numel=numel,
        rms=math.sqrt(sum(one.numel * one.rms**2 for one in measures) / numel),
        largest=math.nan if any(map(math.isnan, largest)) else max(largest),
        channel=None,
        near_zero=sum(one.numel * one.near_zero for one in measures) / numel,
        broken=sum(one.broken for one in measures),
    )


def growth(first: Measure, last: Measure) -> float:
    """Return by what share the root mean square grew; infinite from 0, nan if one is broken.

    >>> from dataclasses import replace
    >>> one = Measure(numel=1, rms=2.0, largest=2.0, channel=0, near_zero=0.0, broken=0)
    >>> growth(one, replace(one, rms=1.5))
    -0.25
    """
    if first.rms == 0:
        return 0.0 if last.rms == 0 else math.inf * last.rms
    return last.rms / first.rms - 1
