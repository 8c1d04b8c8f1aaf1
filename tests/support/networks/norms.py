"""Norms in the ways in which people write them, each with its gain and the gain's offset."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Part, channels_first, part


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A normalisation, its gain, and the offset of the gain."""

    module: nn.Module
    gain: nn.Parameter
    offset: int
    dim: int
    last: bool  # normalises the last dimension of any tensor, not channels of (batch, token, dim)


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _written_layer(m: Part, x: Tensor) -> Tensor:
    y = _centred(x)
    return y / torch.sqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * m[0] + m[1]


def _std_layer(m: Part, x: Tensor) -> Tensor:
    return m[0] * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + m[1]


def _var_layer(m: Part, x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
    return torch.addcmul(m[1], (x - mean) * (var + 1e-6).rsqrt(), m[0])


def _in_place_layer(m: Part, x: Tensor) -> Tensor:
    y = _centred(x.float())
    y /= (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    y *= m[0]
    y += m[1]
    return y.type_as(x)


def _sum_rms(m: Part, x: Tensor) -> Tensor:
    y = _rms(x)
    return y + y * m[0]


def _sum_rms_reversed(m: Part, x: Tensor) -> Tensor:
    y = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * x
    return m[0] * y + y


def _divided_rms(m: Part, x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) / math.sqrt(x.shape[-1]) + 1e-6) * m[0]


def _unit_rms(m: Part, x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) * m[0]


def _grouped_rms(m: Part, x: Tensor) -> Tensor:
    return _rms(x.unflatten(-1, (2, -1))).flatten(-2) * m[0]


def _rms_of_all(m: Part, x: Tensor) -> Tensor:
    return m[0] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True).mean(1, keepdim=True) + 1e-6))


def _scaled_rms(m: Part, x: Tensor) -> Tensor:
    """The vector before the norm is not a gain: the norm divides it out."""
    return m[0] * _rms(m[1] * x)


WRITTEN: dict[str, tuple[Callable[[Part, Tensor], Tensor], int]] = {
    "rms w*y": (lambda m, x: m[0] * _rms(x), 0),
    "rms y*(1+w)": (lambda m, x: _rms(x) * (1.0 + m[0]), 1),
    "rms (w+1)*y cast": (lambda m, x: (m[0].float() + 1) * _rms(x.float()), 1),
    "rms y+y*w": (_sum_rms, 1),
    "rms y*w+y": (_sum_rms_reversed, 1),
    "rms of a product": (_scaled_rms, 0),
    "rms one number": (lambda m, x: m[0] * _rms(x), 0),
    "rms of all": (_rms_of_all, 0),
    "rms divided": (_divided_rms, 0),
    "rms unit": (_unit_rms, 0),
    "rms grouped": (_grouped_rms, 0),
    "rms einsum": (lambda m, x: torch.einsum("...d,d->...d", _rms(x), m[0]), 0),
    "rms fused 1+w": (lambda m, x: F.rms_norm(x, x.shape[-1:], 1 + m[0]), 1),
    "layer written": (_written_layer, 0),
    "layer std": (_std_layer, 0),
    "layer var_mean": (_var_layer, 0),
    "layer in place": (_in_place_layer, 0),
    "layer fused 1+w": (lambda m, x: F.layer_norm(x, x.shape[-1:], 1 + m[0], m[1]), 1),
}
# Those with a second vector.
MORE = {kind for kind in WRITTEN if kind.startswith("layer")} | {"rms of a product"}
MODULES = ("nn.LayerNorm", "nn.LayerNorm no bias", "nn.RMSNorm", "nn.BatchNorm1d", "nn.GroupNorm")


def norm_kinds(last: bool) -> list[str]:
    """The norms that fit: ``last`` leaves those that need (batch, token, dim)."""
    kinds = [*WRITTEN, *MODULES]
    return [k for k in kinds if not (last and k in MODULES[3:])]


def make_norm(kind: str, dim: int, names: random.Random) -> Norm:
    """A norm with random gains between 0.5 and 1.5 and small shifts."""
    offset = 0
    if kind in WRITTEN:
        run, offset = WRITTEN[kind]
        gain = nn.Parameter(torch.empty(1 if kind == "rms one number" else dim))
        other = [nn.Parameter(torch.rand(dim) - 0.5)] if kind in MORE else []
        module: nn.Module = part(names, run, gain, *other)
    else:
        module = {
            "nn.LayerNorm": lambda: nn.LayerNorm(dim),
            "nn.LayerNorm no bias": lambda: nn.LayerNorm(dim, bias=False),
            "nn.RMSNorm": lambda: nn.RMSNorm(dim, eps=1e-6),
            "nn.BatchNorm1d": lambda: nn.BatchNorm1d(dim),
            "nn.GroupNorm": lambda: nn.GroupNorm(2, dim),
        }[kind]()
        gain = module.weight
        if getattr(module, "bias", None) is not None:
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 1.0)
        if kind in MODULES[3:]:
            module = part(names, channels_first, module)
    nn.init.uniform_(gain, 0.5 - offset, 1.5 - offset)
    return Norm(module=module, gain=gain, offset=offset, dim=dim, last=kind not in MODULES[3:])
