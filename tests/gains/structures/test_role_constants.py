"""Angles, slopes, mixes and gates: learned, and not weights whatever their shape."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.structures import D, Net, block, linear, mlp, norm, parameter, roles

N, L = 4, 5


def alibi() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        distance = torch.arange(L)[:, None] - torch.arange(L)
        scores = (m.q(x) @ m.k(x).mT)[:, None] - m.slopes * distance
        return scores.softmax(-1).mean(1) @ x

    return block(branch, slopes=parameter(2, 1, 1), q=linear(), k=linear()), {"slopes": "other"}


def rotary() -> tuple[Net, dict[str, str]]:
    """Learned frequencies, those of every axis and head (RoPE-mixed)."""

    def branch(m: Net, x: Tensor) -> Tensor:
        rows, columns = torch.arange(L)[:, None] % 2.0, torch.arange(L)[:, None] // 2.0
        angle = rows @ m.freqs[:1] + columns @ m.freqs[1:]
        turn = torch.polar(torch.ones_like(angle), angle)
        q, k = (
            torch.view_as_real(torch.view_as_complex(p(x).unflatten(-1, (-1, 2))) * turn).flatten(2)
            for p in (m.q, m.k)
        )
        return (q @ k.mT).softmax(-1) @ x

    return block(branch, freqs=parameter(2, D // 2), q=linear(), k=linear()), {"freqs": "other"}


def rotary_by_angle() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        angle = torch.arange(L)[:, None] * m.inverse
        cos, sin = (f(angle).repeat(1, 2) for f in (torch.cos, torch.sin))
        q, k = (h * cos + torch.cat([-h[..., N:], h[..., :N]], -1) * sin for h in (m.q(x), m.k(x)))
        return (q @ k.mT).softmax(-1) @ x

    return block(branch, inverse=parameter(N), q=linear(), k=linear()), {"inverse": "other"}


def hyper_connections() -> tuple[Net, dict[str, str]]:
    """Streams mixed by a static and a dynamic matrix."""

    def branch(m: Net, x: Tensor) -> Tensor:
        streams = torch.stack([x, 2 * x, 3 * x], -2)
        mixed = (torch.tanh(streams @ m.dynamic) * m.scale + m.static).mT @ streams
        return mixed.sum(-2)

    members = {"static": parameter(3, N), "scale": parameter(1)}
    return block(branch, **members, dynamic=parameter(D, N)), {
        **dict.fromkeys(members, "other"), "dynamic": "weight",
    }  # fmt: skip


def modulations() -> tuple[Net, dict[str, str]]:
    """PixArt, LTX, Wan: a table is added to what comes of the time step."""

    def branch(m: Net, x: Tensor) -> Tensor:
        t = m.time(x.mean(1)).unflatten(-1, (3, D))
        shift, scale, gate = (m.scale_shift_table + t).chunk(3, dim=1)
        return gate * m.work(m.plain(x) * (1 + scale) + shift)

    plain = nn.LayerNorm(D, elementwise_affine=False)
    members = {"time": linear(D, 3 * D), "work": mlp(), "plain": plain}
    return block(branch, **members, scale_shift_table=parameter(3, D)), {
        "scale_shift_table": "other"
    }


def transformer_xl() -> tuple[Net, dict[str, str]]:
    """Matrices added to the query alone: u meets keys, v what a weight makes of positions."""

    def branch(m: Net, x: Tensor) -> Tensor:
        q, k = (layer(x).unflatten(-1, (2, N)) for layer in (m.q, m.k))
        places = m.r(torch.arange(L * D).view(L, D).sin()).unflatten(-1, (2, N))
        content = torch.einsum("bihd,bjhd->bhij", q + m.pos_bias_u, k)
        place = torch.einsum("bihd,jhd->bhij", q + m.pos_bias_v, places)
        return (content + place).softmax(-1).mean(1) @ x

    own = {name: parameter(2, N) for name in ("pos_bias_u", "pos_bias_v")}
    layers = {name: linear() for name in "qkr"}
    return block(branch, **own, **layers), dict.fromkeys(own, "other")


def crf() -> tuple[Net, dict[str, str]]:
    def forward(m: Net, x: Tensor) -> Tensor:
        emit = m.emit(m.last(m.stem(x)))
        score = emit[:, 0] + m.start
        for t in range(1, L):
            step = score[:, :, None] + m.transitions + emit[:, t, None]
            score = torch.logsumexp(step, 1)
        return torch.logsumexp(score, 1)

    members = {"start": parameter(N), "transitions": parameter(N, N)}
    wanted = {"start": "bias", "transitions": "other"}
    return Net(forward, stem=linear(), last=norm(), emit=linear(D, N), **members), wanted


def gates() -> tuple[Net, dict[str, str]]:
    """A mask that is learned, a temperature, PReLU, IA3, a moving average."""

    def branch(m: Net, x: Tensor) -> Tensor:
        h = F.linear(x, m.weight * torch.sigmoid(m.mask))
        h = F.prelu(h.mT, m.slope).mT * m.ia3
        state = h[:, 0]
        for t in range(1, L):
            state = m.ema.sigmoid() * state + (1 - m.ema.sigmoid()) * h[:, t]
        return h * m.log_scale.exp() + state[:, None]

    vectors = {name: parameter(D) for name in ("slope", "ia3", "ema")}
    matrices = {"mask": parameter(D, D), "weight": parameter(D, D)}
    wanted = dict.fromkeys((*vectors, "mask", "log_scale"), "other") | {"weight": "weight"}
    return block(branch, **vectors, **matrices, log_scale=parameter()), wanted


def bayesian() -> tuple[Net, dict[str, str]]:
    """Sampled weights: the mean is a weight, what spreads it is none."""

    def branch(m: Net, x: Tensor) -> Tensor:
        return F.linear(x, m.mean + F.softplus(m.rho) * torch.ones(D, D) * m.noise)

    model = block(branch, mean=parameter(D, D), rho=parameter(D, D))
    model.register_buffer("noise", torch.randn(D, D))
    return model, {"mean": "weight", "rho": "other"}


def gabor() -> tuple[Net, dict[str, str]]:
    """Convolution kernels that a few numbers generate."""

    def branch(m: Net, x: Tensor) -> Tensor:
        t = torch.arange(3) - 1.0
        kernel = torch.exp(-((t * m.width) ** 2)) * torch.cos(t * m.freq)
        return F.conv1d(x.mT, kernel[:, None], padding=1, groups=D).mT

    return block(branch, width=parameter(D, 1), freq=parameter(D, 1)), {
        "width": "other",
        "freq": "other",
    }


def uncertainty() -> tuple[Net, dict[str, str]]:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.last(m.stem(x))
        return m.head(x) * torch.exp(-m.log_var) / m.sigma.clamp(min=0.1)

    members = {"log_var": parameter(L, D), "sigma": parameter(D)}
    return Net(forward, stem=linear(), last=norm(), head=linear(), **members), dict.fromkeys(
        members, "other"
    )


def sinks(joined: bool) -> tuple[Net, dict[str, str]]:
    """Attention sinks, as one more logit, and as a factor that comes to the same."""

    def branch(m: Net, x: Tensor) -> Tensor:
        scores = (m.q(x) @ m.k(x).mT)[:, None].expand(-1, 2, -1, -1)
        sink = m.sinks.view(1, -1, 1, 1)
        if joined:
            probs = torch.cat([scores, sink.expand(2, -1, L, 1)], -1).softmax(-1)[..., :-1]
        else:
            probs = scores.softmax(-1) * (scores.logsumexp(-1, keepdim=True) - sink).sigmoid()
        return probs.mean(1) @ x

    return block(branch, sinks=parameter(2), q=linear(), k=linear()), {"sinks": "other"}


STRUCTURES = [
    alibi,
    rotary,
    rotary_by_angle,
    hyper_connections,
    modulations,
    transformer_xl,
    crf,
    gates,
    bayesian,
    gabor,
    uncertainty,
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda made: made.__name__)
def test_role_of_every_own_parameter(structure) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model, wanted = structure()
    assert roles(model, wanted) == wanted


@pytest.mark.parametrize("joined", [True, False])
def test_attention_sinks_have_one_role_in_both_ways_of_writing_them(joined: bool) -> None:
    model, wanted = sinks(joined)
    assert roles(model, wanted) == wanted
