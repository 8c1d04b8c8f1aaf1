"""Recurrent, convolutional and state-space mixers, and networks for sound."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.language import lm
from tests.support.zoo.parts import (
    D,
    Net,
    linear,
    mlp,
    norm,
    rms,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def scan(decay: Tensor, drive: Tensor) -> Tensor:
    """A linear recurrence over time (dimension 1), from a state of zeros."""
    state, states = torch.zeros_like(drive[:, 0]), []
    for t in range(drive.shape[1]):
        state = decay[:, t] * state + drive[:, t]
        states.append(state)
    return torch.stack(states, 1)


@structure
def mamba() -> Structure:
    """Selective state space: ``A_log`` and ``D`` are no gains; a gated norm before the output."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h, z = m.enter(m.n(x)).chunk(2, -1)
        h = F.silu(m.conv(h.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        step = F.softplus(m.step(h))
        y = scan((-m.A_log.exp() * step).exp(), step * m.b(h) * h) * m.c(h) + m.D * h
        return x + m.leave(m.gated(y * F.silu(z)))

    make = lambda: Net(
        forward, n=rms(), enter=linear(D, 2 * D), conv=nn.Conv1d(D, D, 3, padding=2, groups=D),
        step=linear(), b=linear(), c=linear(), A_log=nn.Parameter(torch.rand(D)),
        D=nn.Parameter(torch.ones(D)), gated=rms(), leave=linear(),
    )  # fmt: skip
    return Structure(
        model=lm([make(), make()], rms()), inputs=tokens(), inner="blocks.*.n blocks.*.gated",
        head="final", other="blocks.*.D blocks.*.A_log",
    )  # fmt: skip


@structure
def rwkv() -> Structure:
    """Mixes with the last token, a decay per channel, a norm of the heads inside."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        before = F.pad(h, (0, 0, 1, -1))
        k, v, r = (p(h * mix + before * (1 - mix)) for p, mix in
                   ((m.k, m.mix_k), (m.v, m.mix_v), (m.r, m.mix_r)))  # fmt: skip
        decay = (-m.decay.exp()).exp().expand_as(k)
        y = scan(decay, k.exp() * v) / (scan(decay, k.exp()) + 1e-3)
        y = m.n_heads(y.flatten(0, 1)).view_as(y)
        x = x + m.out(r.sigmoid() * y)
        h = m.n2(x)
        return x + m.gate(h).sigmoid() * m.down(m.up(h).relu().square())

    mix = lambda: nn.Parameter(torch.rand(D))

    def make() -> Net:
        return Net(
            forward, n1=norm(), n2=norm(), n_heads=nn.GroupNorm(2, D), k=linear(), v=linear(),
            r=linear(), out=linear(), gate=linear(), up=linear(), down=linear(), mix_k=mix(),
            mix_v=mix(), mix_r=mix(), decay=mix(),
        )  # fmt: skip

    model = lm([make(), make()], norm())
    model.embed = nn.Sequential(model.embed, norm())
    return Structure(
        model=model, inputs=tokens(), shortcut="embed.1", head="final",
        inner="blocks.*.n?  blocks.*.n_heads", other="blocks.*.mix_? blocks.*.decay",
    )  # fmt: skip


@structure
def retnet() -> Structure:
    """Retention with a fixed decay, a norm of the heads and a swish gate."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        places = torch.arange(x.shape[1])
        decay = torch.tril(0.9 ** (places[:, None] - places).abs())
        y = (m.q(h) @ m.k(h).mT * decay) @ m.v(h)
        y = m.n_heads(y.flatten(0, 1)).view_as(y)
        x = x + m.out(F.silu(m.gate(h)) * y)
        return x + m.mlp(m.n2(x))

    make = lambda: Net(
        forward, n1=rms(), n2=rms(), n_heads=nn.GroupNorm(2, D), q=linear(), k=linear(),
        v=linear(), gate=linear(), out=linear(), mlp=mlp(),
    )  # fmt: skip
    return Structure(
        model=lm([make(), make()], rms()), inputs=tokens(), head="final",
        inner="blocks.*.n? blocks.*.n_heads",
    )  # fmt: skip


@structure
def gated_attention_unit() -> Structure:
    """GAU: one shared base for queries and keys, scaled and shifted by vectors: no gains."""

    def forward(m: Net, x: Tensor) -> Tensor:
        u, v, base = F.silu(m.enter(m.n(x))).chunk(3, -1)
        q, k = base * m.scale[0] + m.shift[0], base * m.scale[1] + m.shift[1]
        return x + m.out(u * ((q @ k.mT).relu().square() / x.shape[1] @ v))

    make = lambda: Net(
        forward, n=norm(), enter=linear(D, 3 * D), out=linear(),
        scale=nn.Parameter(torch.rand(2, D)), shift=nn.Parameter(torch.rand(2, D)),
    )  # fmt: skip
    return Structure(
        model=lm([make(), make()], norm()), inputs=tokens(), inner="blocks.*.n", head="final",
        other="blocks.*.scale",
    )  # fmt: skip


@structure
def hyena() -> Structure:
    """Long convolutions by Fourier transform, with a filter made by a small network."""

    def forward(m: Net, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = m.enter(m.n1(x)).chunk(3, -1)
        times = torch.linspace(0, 1, length)[:, None]
        filters = (
            m.filter(torch.cat([times, (6 * times).sin()], -1)) * (-times * m.rate.abs()).exp()
        )
        h = k * v
        spectrum = torch.fft.rfft(h, n=2 * length, dim=1)
        spectrum = spectrum * torch.fft.rfft(filters, n=2 * length, dim=0)
        y = torch.fft.irfft(spectrum, n=2 * length, dim=1)[:, :length] + h * m.direct
        x = x + m.out(q * y)
        return x + m.mlp(m.n2(x))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), enter=linear(D, 3 * D), out=linear(), mlp=mlp(),
        filter=nn.Sequential(linear(2, D), nn.GELU(), linear()), rate=nn.Parameter(torch.rand(D)),
        direct=nn.Parameter(torch.rand(D)),
    )  # fmt: skip
    return Structure(
        model=lm([make(), make()], norm()), inputs=tokens(), inner="blocks.*.n?", head="final",
        other="blocks.*.rate blocks.*.direct",
    )  # fmt: skip


@structure
def griffin() -> Structure:
    """A real-gated linear recurrence; its input is scaled by the root of what it forgets."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        drive = m.enter(h)
        decay = (-8 * F.softplus(m.rate) * m.forget(drive).sigmoid()).exp()
        y = scan(decay, (1 - decay.square()).sqrt() * (m.keep(drive).sigmoid() * drive))
        x = x + m.out(y * F.gelu(m.gate(h)))
        return x + m.mlp(m.n2(x))

    make = lambda: Net(
        forward, n1=rms(), n2=rms(), enter=linear(), forget=linear(), keep=linear(), gate=linear(),
        out=linear(), mlp=mlp(), rate=nn.Parameter(torch.rand(D)),
    )  # fmt: skip
    return Structure(
        model=lm([make(), make()], rms()), inputs=tokens(), inner="blocks.*.n?", head="final",
        other="blocks.*.rate",
    )  # fmt: skip
