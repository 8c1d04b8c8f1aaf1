"""Norms written out in operations: of latent tokens, over time, of nothing, after their gain."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.structures import attend
from tests.support.zoo.normalisers import around, named, ones
from tests.support.zoo.parts import D, Net, linear, mlp, norm, signal
from tests.support.zoo.structure import Structure, structure

ROWS = 3


def root_mean_square(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def gained(m: Net, x: Tensor) -> Tensor:
    return m.g * root_mean_square(x)


def centred(m: Net, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * m.g + m.b


def rms() -> nn.Module:
    return named("RMS", gained, g=ones)


def resampler(make: Callable[[], nn.Module], joined: bool, rows: int = ROWS) -> Structure:
    """Latent tokens read a signal twice; the first norm's input is a parameter alone."""

    def layer(m: Net, latents: Tensor, x: Tensor) -> Tensor:
        queries = m.n1(latents)
        memory = torch.cat([x, queries], 1) if joined else x
        latents = latents + m.o(attend(m.q(queries), m.k(memory), m.v(memory)))
        return latents + m.body(m.n2(latents))

    def forward(m: Net, x: Tensor) -> Tensor:
        latents = m.latents.expand(x.shape[0], -1, -1)
        for each in m.layers:
            latents = each(latents, x)
        return m.out(m.final(latents))

    layers = nn.ModuleList(
        Net(layer, n1=make(), n2=make(), q=linear(), k=linear(), v=linear(), o=linear(), body=mlp())
        for _ in range(2)
    )
    latents = nn.Parameter(torch.randn(rows, D))
    model = Net(forward, latents=latents, layers=layers, final=make(), out=linear())
    return Structure(model=model, inputs=signal(), inner="layers.*.n?.g", head="final.g")


@structure
def latents_joined_to_what_they_read() -> Structure:
    return resampler(rms, joined=True)


@structure
def one_latent_joined_to_what_it_reads() -> Structure:
    return resampler(rms, joined=True, rows=1)


@structure
def latents_behind_a_centred_norm_joined_to_what_they_read() -> Structure:
    return resampler(lambda: named("LN", centred, g=ones, b=ones), joined=True)


@structure
def latents_that_only_ask() -> Structure:
    return resampler(rms, joined=False)


@structure
def latents_behind_a_centred_norm_that_only_ask() -> Structure:
    return resampler(lambda: named("LN", centred, g=ones, b=ones), joined=False)


@structure
def causal_layer_norm() -> Structure:
    """Mean and variance over all channels of all that came before, as in streaming audio."""

    def forward(m: Net, x: Tensor) -> Tensor:
        count = torch.ones_like(x).sum(-1, keepdim=True).cumsum(1).clamp(min=1)
        x = x - x.sum(-1, keepdim=True).cumsum(1) / count
        variance = x.pow(2).sum(-1, keepdim=True).cumsum(1) / count
        return x * torch.rsqrt(variance + 1e-3) * m.g

    return around(lambda: named("CausalNorm", forward, g=ones))


@structure
def causal_rms_norm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        steps = torch.arange(1, x.shape[1] + 1)[:, None]
        return m.g * x / (x.square().mean(-1, keepdim=True).cumsum(1) / steps + 1e-6).sqrt()

    return around(lambda: named("CausalNorm", forward, g=ones))


@structure
def condition_that_is_left_out() -> Structure:
    """Without the optional signal its branch runs on zeros, whose norm has nothing to scale."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        condition = m.n(torch.zeros_like(x))
        x = root_mean_square(x + m.down(m.gate(condition).tanh() * m.up(condition)))
        return m.out(m.final(x + m.body(m.pre(x))))

    weighted = lambda m, x: m.weight * root_mean_square(x)
    plain = lambda: nn.Linear(D, D, bias=False)
    model = Net(
        forward, enter=linear(), n=named("RMSNorm", weighted, weight=ones), gate=plain(),
        up=plain(), down=plain(), pre=norm(), body=mlp(), final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=signal(), unused="n", inner="pre", head="final")


@structure
def unit_gain_before_a_written_norm() -> Structure:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(0.1 * torch.randn(D))

        def forward(self, x: Tensor) -> Tensor:
            return root_mean_square((x.float() * (1.0 + self.weight).float()).type_as(x))

    Scaled.__name__ = "InputScaledRMSNorm"
    return around(Scaled, other="blocks.*.n final")


@structure
def shared_gain_before_a_written_norm() -> Structure:
    """``x + x * w``, the same gain written last."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return root_mean_square(x + x * m.g)

    return around(
        lambda: named("InputScaledRMSNorm", forward, g=ones), other="blocks.*.n.g final.g"
    )
