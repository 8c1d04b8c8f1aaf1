"""Rates, kernels' generators and states of recurrences: learned, and not weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.structures import D, Net, block, linear, parameter, roles

N, L = 4, 5


def convolve(kernel: Tensor, x: Tensor) -> Tensor:
    """A long causal convolution of every channel with its kernel of shape (channels, L)."""
    spectrum = torch.fft.rfft(kernel, n=2 * L) * torch.fft.rfft(x.mT, n=2 * L)
    return torch.fft.irfft(spectrum, n=2 * L)[..., :L].mT


def scan(step, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """Run ``state, y = step(state, x_t)`` over time."""
    state, out = None, []
    for t in range(x.shape[1]):
        state, y = step(state, x[:, t])
        out.append(y)
    return torch.stack(out, 1)


def s4d() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        rate = (-m.log_a.exp() + 1j * m.a_imag) * m.log_dt.exp()[:, None]
        basis = (rate[..., None] * torch.arange(L)).exp()
        return (
            convolve(torch.einsum("dn,dnl->dl", torch.view_as_complex(m.c), basis).real, x)
            + m.d * x
        )

    members = {"log_dt": parameter(D), "log_a": parameter(D, N), "a_imag": parameter(D, N)}
    wanted = dict.fromkeys((*members, "d"), "other") | {"c": "weight"}
    return block(branch, **members, c=parameter(D, N, 2), d=parameter(D)), wanted


def s4d_as_a_sum() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        basis = torch.exp(-F.softplus(m.rate)[..., None] * torch.arange(L))
        return convolve((m.c[..., None] * basis).sum(1), x)

    return block(branch, rate=parameter(D, N), c=parameter(D, N)), {"rate": "other", "c": "weight"}


def mamba() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        dt = F.softplus(m.dt(x) + m.dt_bias)
        decay = torch.exp(dt[..., None] * -torch.exp(m.A_log))
        b = (dt * x)[..., None] * m.b(x)[..., None, :]

        def step(state, t):  # type: ignore[no-untyped-def]
            state = b[:, t] if state is None else decay[:, t] * state + b[:, t]
            return state, (state * m.c(x)[:, t, None, :]).sum(-1)

        state, out = None, []
        for t in range(x.shape[1]):
            state, y = step(state, t)
            out.append(y)
        return torch.stack(out, 1) + m.D * x

    members = {"A_log": parameter(D, N), "D": parameter(D), "dt_bias": parameter(D)}
    wanted = {"A_log": "other", "D": "other", "dt_bias": "bias"}
    return block(branch, **members, dt=linear(), b=linear(D, N), c=linear(D, N)), wanted


def rwkv4() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        before = F.pad(x, (0, 0, 1, -1))
        k = m.k(x * m.mix_k + before * (1 - m.mix_k))
        v = m.v(x * m.mix_v + before * (1 - m.mix_v))
        rate = -torch.exp(m.time_decay)
        top = bottom = torch.zeros_like(k[:, 0])
        out = []
        for t in range(L):
            now = torch.exp(k[:, t] + m.time_first)
            out.append((top + now * v[:, t]) / (bottom + now))
            top = torch.exp(rate) * top + torch.exp(k[:, t]) * v[:, t]
            bottom = torch.exp(rate) * bottom + torch.exp(k[:, t])
        return torch.stack(out, 1)

    names = ("mix_k", "mix_v", "time_decay")
    members = {name: parameter(D) for name in (*names, "time_first")}
    wanted = dict.fromkeys(names, "other") | {"time_first": "bias"}
    return block(branch, **members, k=linear(), v=linear()), wanted


def rwkv4_in_log_space() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        k, v, rate = m.k(x), m.v(x), -torch.exp(m.time_decay)
        peak, top = k[:, 0], v[:, 0]
        out = [top]
        for t in range(1, L):
            higher = torch.maximum(peak + rate, k[:, t])
            top = torch.exp(peak + rate - higher) * top + torch.exp(k[:, t] - higher) * v[:, t]
            peak = higher
            out.append(top)
        return torch.stack(out, 1)

    return block(branch, time_decay=parameter(D), k=linear(), v=linear()), {"time_decay": "other"}


def rwkv5() -> tuple[Net, dict[str, str]]:
    """Heads: decay and bonus are matrices (heads, head size)."""

    def branch(m: Net, x: Tensor) -> Tensor:
        r, k, v = (p(x).unflatten(-1, (2, N)) for p in (m.r, m.k, m.v))
        decay = torch.exp(-torch.exp(m.time_decay))[..., None]
        state = torch.zeros(2, 2, N, N)
        out = []
        for t in range(L):
            kv = k[:, t, ..., None] * v[:, t, :, None, :]
            out.append((r[:, t, :, None, :] @ (m.time_faaaa[..., None] * kv + state)).flatten(1))
            state = decay * state + kv
        return torch.stack(out, 1)

    members = {"time_decay": parameter(2, N), "time_faaaa": parameter(2, N)}
    return block(branch, **members, r=linear(), k=linear(), v=linear()), dict.fromkeys(
        members, "other"
    )


def rwkv7() -> tuple[Net, dict[str, str]]:
    """Vectors shaped (1, 1, channels), and the small matrices of its data-dependent rates."""

    def branch(m: Net, x: Tensor) -> Tensor:
        w = torch.exp(-0.6 * torch.sigmoid(m.w0 + torch.tanh(x @ m.w1) @ m.w2))
        k = F.normalize(m.k(x) * m.k_k, dim=-1)
        return w * k

    members = {"w0": parameter(1, 1, D), "w1": parameter(D, 2), "w2": parameter(2, D)}
    wanted = {"w0": "bias", "w1": "weight", "w2": "weight", "k_k": "other"}
    return block(branch, **members, k_k=parameter(1, 1, D), k=linear()), wanted


def retention() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        distance = (torch.arange(L)[:, None] - torch.arange(L)).clamp(min=0)
        decay = torch.sigmoid(m.gamma)[:, None, None] ** distance
        return (((m.q(x) @ m.k(x).mT)[:, None] * decay).sum(1)) @ x

    return block(branch, gamma=parameter(2), q=linear(), k=linear()), {"gamma": "other"}


def lru() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        rate = torch.exp(-m.nu_log.exp() + 1j * m.theta_log.exp())
        b = torch.complex(m.b_re, m.b_im) * m.gamma_log.exp()[:, None]
        drive = x.to(torch.complex64) @ b.mT

        def step(state, u):  # type: ignore[no-untyped-def]
            state = u if state is None else rate * state + u
            return state, (state @ torch.view_as_complex(m.c).mT).real

        return scan(step, drive) + m.d * x

    rates = {name: parameter(N) for name in ("nu_log", "theta_log", "gamma_log")}
    matrices = {"b_re": parameter(N, D), "b_im": parameter(N, D), "c": parameter(D, N, 2)}
    wanted = dict.fromkeys((*rates, "d"), "other") | dict.fromkeys(matrices, "weight")
    return block(branch, **rates, **matrices, d=parameter(D)), wanted


def s5() -> tuple[Net, dict[str, str]]:
    def branch(m: Net, x: Tensor) -> Tensor:
        rate = torch.complex(m.lambda_re, m.lambda_im)
        held = torch.exp(rate * m.log_step.exp())
        b = ((held - 1) / rate)[:, None] * torch.view_as_complex(m.b)
        drive = x.to(torch.complex64) @ b.mT

        def step(state, u):  # type: ignore[no-untyped-def]
            state = u if state is None else held * state + u
            return state, 2 * (state @ torch.view_as_complex(m.c).mT).real

        return scan(step, drive)

    rates = {name: parameter(N) for name in ("lambda_re", "lambda_im", "log_step")}
    matrices = {"b": parameter(N, D, 2), "c": parameter(D, N, 2)}
    wanted = dict.fromkeys(rates, "other") | dict.fromkeys(matrices, "weight")
    return block(branch, **rates, **matrices), wanted


def dense_state_space() -> tuple[Net, dict[str, str]]:
    """A dense continuous state matrix, made discrete with a learned step."""

    def branch(m: Net, x: Tensor) -> Tensor:
        held = torch.matrix_exp(m.a * m.log_step.exp())

        def step(state, u):  # type: ignore[no-untyped-def]
            state = u @ m.b if state is None else state @ held + u @ m.b
            return state, state @ m.c

        return scan(step, x)

    members = {"a": parameter(N, N), "log_step": parameter(1)}
    wanted = dict.fromkeys(members, "other") | {"b": "weight", "c": "weight"}
    return block(branch, **members, b=parameter(D, N), c=parameter(N, D)), wanted


def hyena() -> tuple[Net, dict[str, str]]:
    """An implicit filter: a network on positions, sine activations, a learned window."""

    def branch(m: Net, x: Tensor) -> Tensor:
        t = torch.linspace(0, 1, L)[:, None]
        hidden = torch.sin(m.freq * m.first(m.z))
        kernel = m.second(hidden) * torch.exp(-t * m.deltas.abs())
        return convolve(kernel.mT, x) + x * m.skip

    members = {"freq": parameter(1, D), "z": parameter(L, 3), "deltas": parameter(1, D)}
    wanted = dict.fromkeys((*members, "skip"), "other")
    return block(branch, **members, skip=parameter(D), first=linear(3, D), second=linear()), wanted


def first_state() -> tuple[Net, dict[str, str]]:
    """A learned first state of two layers, and what initialises a scan."""

    def branch(m: Net, x: Tensor) -> Tensor:
        state = (m.h0.expand(-1, 2, -1).contiguous(), m.c0.expand(-1, 2, -1).contiguous())
        return m.lstm(x, state)[0]

    lstm = nn.LSTM(D, D, 2, batch_first=True)
    members = {"h0": parameter(2, 1, D), "c0": parameter(2, 1, D)}
    return block(branch, lstm=lstm, **members), dict.fromkeys(members, "other")


STRUCTURES = [
    s4d,
    s4d_as_a_sum,
    mamba,
    rwkv4,
    rwkv4_in_log_space,
    rwkv5,
    rwkv7,
    retention,
    lru,
    s5,
    dense_state_space,
    hyena,
    first_state,
]


@pytest.mark.filterwarnings("ignore:'k_k'.*before a norm")
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda made: made.__name__)
def test_role_of_every_own_parameter(structure) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model, wanted = structure()
    assert roles(model, wanted) == wanted
