"""Compress the steps of a long run into runs of steps that decay by nearly the same share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 2_000
"""Shorter runs are not compressed, but for steps that are equal."""

MOST = 2_000
"""How many runs a long one may have."""

_NEAR_PEAK, _BELOW = 0.003, 0.015
"""How far shares that are merged may differ: above half of the peak, where most steps are and where
rounding may take all or nothing of them, and below."""

_FAINT = 1e-3
"""Shares below this part of the peak are told apart no further."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Steps in a row that decay alike.

    Attributes:
        share: lr * coefficient, in the mean.
        taken: What a step takes of it after the factor 1 - share was rounded, in the mean.
        steps: How many.
    """

    share: float
    taken: float
    steps: int


def runs_of(shares: Tensor, taken: Tensor, *, coarse: float = 1.0) -> list[Run]:
    """Return the runs that the steps of a whole training run are made of.

    Sums are kept. If the shares swing so often that runs of like ones are too many, steps are
    merged in blocks of equal length instead.

    Args:
        shares: lr * coefficient of every step, in float64.
        taken: The same after rounding of the factor.
        coarse: By what the distance of shares that are merged is multiplied.
    """
    if not len(shares):
        return []
    keys = torch.stack([shares, taken])
    if len(shares) > EXACT:
        keys = torch.stack([_places(shares, coarse), _places(taken, coarse)])
    counts = torch.unique_consecutive(keys, dim=1, return_counts=True)[1]
    if len(shares) > EXACT and len(counts) > MOST:
        length = -(-len(shares) // MOST)
        whole, rest = divmod(len(shares), length)
        counts = torch.tensor([length] * whole + [rest] * bool(rest))
    means = (_sums(one, counts) / counts for one in (shares, taken))
    rows = zip(*(mean.tolist() for mean in means), counts.tolist(), strict=True)
    return [Run(share=share, taken=own, steps=steps) for share, own, steps in rows]


def _places(shares: Tensor, coarse: float) -> Tensor:
    """Number the classes of shares that may be merged."""
    peak = float(shares.max())
    if not peak:
        return shares
    level = (shares / peak).clamp(min=_FAINT).log()
    half = math.log(0.5)
    fine = (level / (_NEAR_PEAK * coarse)).round()
    places = torch.where(level > half, fine, -1e4 + ((level - half) / (_BELOW * coarse)).round())
    # A pause is no faint step: rounding may take all of the one and nothing of the other.
    return torch.where(shares == 0, -1e6, places)


def _sums(values: Tensor, counts: Tensor) -> Tensor:
    ends = values.cumsum(0)[counts.cumsum(0) - 1]
    return torch.cat([values.new_zeros(1), ends]).diff()
