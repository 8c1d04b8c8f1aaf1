"""The values of a parameter that stand for all of them, where the effect of decay is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gamma_nlp.decay.deferred import MOVED
from gamma_nlp.wrappers import mesh_of, whole

_READ = 16_384


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Distinct values in float64, and the weight of each."""

    values: Tensor
    counts: Tensor

    def displaced(self, center: float | Literal["start"], dtype: torch.dtype) -> Sample:
        """Return values that have somewhere to go: moved apart, if all are at the center."""
        rest = 0.0 if center == "start" else center
        if bool((self.values != rest).any()):
            return self
        apart = spread(dtype)
        return replace(apart, values=(rest + MOVED * apart.values).to(dtype).double())

    def is_near(self, center: float | Literal["start"]) -> bool:
        """Return whether decay has to tell the values from a center that is not 0."""
        if center == "start":
            return True
        away = (self.counts * (self.values - center).abs()).sum() / self.counts.sum()
        return float(away) < 2 * MOVED * abs(center)


@torch.no_grad()
def sample(parameter: Tensor, most: int = 256) -> Sample:
    """Return the values of a parameter: all that differ, or ``most`` evenly spaced quantiles.

    Every process of its mesh has to ask for the values of a DTensor, and gets those of all of
    them. What has no values here, being of another process or not yet made, is taken for 1.
    """
    if parameter.is_meta:
        return _one()
    flat = _some(parameter.detach()).double().cpu()
    if mesh_of(parameter) is not None:
        flat = flat[~flat.isnan()]
    if not flat.numel():
        return _one()
    values, counts = torch.unique(flat, return_counts=True)
    if len(values) > most:
        flat = flat.sort().values
        places = torch.arange(most, dtype=torch.float64) + 0.5
        values, counts = torch.unique(flat[(places * len(flat) / most).long()], return_counts=True)
    known = values.isfinite()
    values, counts = values[known], counts[known].double()
    return Sample(values=values, counts=counts) if len(values) else _one()


@torch.no_grad()
def stand_in(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a small tensor with values spread over a parameter's, in another dtype."""
    found = sample(parameter)
    return found.values.to(dtype)


def _some(parameter: Tensor) -> Tensor:
    """Return up to twice ``_READ`` values; those of a large DTensor with nan among them."""
    mesh = mesh_of(parameter)
    if mesh is None or parameter.numel() <= _READ:
        flat = whole(parameter).flatten()
        return flat[:: max(1, flat.numel() // _READ)]
    from torch.distributed.tensor import DTensor, Replicate, Shard

    cut = [not placement.is_replicate() for placement in parameter.placements]  # type: ignore[attr-defined]
    parts = math.prod(mesh.size(dim) for dim, is_cut in enumerate(cut) if is_cut)
    flat = parameter.to_local().flatten()  # type: ignore[attr-defined]
    share = -(-_READ // parts)
    flat = flat[:: max(1, -(-flat.numel() // share))]
    flat = torch.cat([flat, flat.new_full((share - len(flat),), math.nan)])
    placements = [Shard(0) if is_cut else Replicate() for is_cut in cut]
    return whole(DTensor.from_local(flat, mesh, placements, run_check=False))


def spread(dtype: torch.dtype) -> Sample:
    """Return values spread between two powers of 2, which rounding treats as any others."""
    places = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    values = (math.log(2.0) * places).exp().to(dtype).double()
    return Sample(values=values, counts=torch.ones_like(values))


def whole_vectors(values: Tensor) -> Tensor:
    """Return values with zeros behind: a CPU rounds the last few of a tensor in another way."""
    return torch.cat([values, values.new_zeros(-len(values) % 64)])


def _one() -> Sample:
    return Sample(
        values=torch.ones(1, dtype=torch.float64), counts=torch.ones(1, dtype=torch.float64)
    )
