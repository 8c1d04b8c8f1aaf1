"""Networks for sound, and recurrences between norms."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.language import lm
from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    linear,
    mlp,
    norm,
    repeat,
    signal,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


@structure
def gated_recurrent_network() -> Structure:
    """A GRU with a zero initial state inside a residual block, and norms around it."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.n2(m.gru(m.n1(x))[0])
        return x + m.mlp(m.n3(x))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), n3=norm(), gru=nn.GRU(D, D, batch_first=True), mlp=mlp()
    )
    return Structure(
        model=lm([make(), make()], norm()), inputs=tokens(), inner="blocks.*.n1 blocks.*.n3",
        last="blocks.*.n2", head="final",
    )  # fmt: skip


@structure
def recurrent_network_by_hand() -> Structure:
    """A plain recurrence from zeros, its state normalised at every step: no addition at all."""

    def forward(m: Net, x: Tensor) -> Tensor:
        state, states = x.new_zeros(len(x), D), []
        for t in range(x.shape[1]):
            state = m.n((m.enter(x[:, t]) + m.back(state)).tanh())
            states.append(state)
        return m.out(m.final(torch.stack(states, 1)))

    # The state comes back through a weight and meets the norm again. The last norm is after it all.
    model = Net(forward, enter=linear(), back=linear(), n=norm(), final=norm(), out=linear())
    return Structure(model=model, inputs=signal(), head="n final")


@structure
def conformer() -> Structure:
    """Half steps around attention and convolution, and a norm at the end of each block."""

    def convolve(m: Net, x: Tensor) -> Tensor:
        h = F.glu(m.c1(m.n_conv(x).transpose(1, 2)), 1)
        return m.c3(F.silu(m.bn(m.c2(h)))).transpose(1, 2)

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + 0.5 * m.f1(m.n1(x))
        x = x + m.attention(m.n2(x))
        x = x + convolve(m, x)
        x = x + 0.5 * m.f2(m.n3(x))
        return m.last(x)

    def run(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        for each in m.blocks:
            x = each(x)
        return m.out(x)

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), n3=norm(), n_conv=norm(), last=norm(), f1=mlp(), f2=mlp(),
        attention=Attention(), c1=nn.Conv1d(D, 2 * D, 1), bn=nn.BatchNorm1d(D),
        c2=nn.Conv1d(D, D, 3, padding=1, groups=D), c3=nn.Conv1d(D, D, 1),
    )  # fmt: skip
    model = Net(run, enter=linear(), blocks=repeat(2, make), out=linear())
    return Structure(
        model=model, inputs=signal(), shortcut="blocks.0.last", head="blocks.1.last",
        inner="blocks.*.n? blocks.*.n_conv blocks.*.bn",
    )  # fmt: skip


@structure
def wav2vec() -> Structure:
    """A convolutional front with a group norm, positions by convolution, post-norm layers."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = F.gelu(m.n_front(m.front(x)))
        x = F.gelu(m.front2(x)).transpose(1, 2)
        x = m.project(m.n_project(x))
        x = m.n_encoder(x + F.gelu(m.positions(x.transpose(1, 2))).transpose(1, 2))
        for each in m.layers:
            x = each.n1(x + each.attention(x))
            x = each.n2(x + each.mlp(x))
        return m.out(x)

    layer = lambda: Net(forward, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
    model = Net(
        forward, front=nn.Conv1d(1, D, 4, 2), n_front=nn.GroupNorm(D, D),
        front2=nn.Conv1d(D, D, 2, 2), n_project=norm(), project=linear(), n_encoder=norm(),
        positions=nn.Conv1d(D, D, 3, padding=1, groups=2), layers=repeat(2, layer), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=signal(1, 1, 40), head="layers.1.n2",
        shortcut="n_front n_project n_encoder layers.?.n1 layers.0.n2",
    )  # fmt: skip


@structure
def gated_cell_by_hand() -> Structure:
    """A GRU written out in a branch, its inputs projected for all steps at once, from zeros.

    Its sums of inputs and states follow each other, but a gated state is no trunk.
    """

    def forward(m: Net, x: Tensor) -> Tensor:
        r, z, n = m.enter(m.n1(x)).chunk(3, -1)
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            back_r, back_z, back_n = m.back(state).chunk(3, -1)
            reset, update = (r[:, t] + back_r).sigmoid(), (z[:, t] + back_z).sigmoid()
            new = (n[:, t] + reset * back_n).tanh()
            state = new + update * (state - new)
            states.append(state)
        return x + m.n2(torch.stack(states, 1))

    make = lambda: Net(forward, n1=norm(), n2=norm(), enter=linear(D, 3 * D), back=linear(D, 3 * D))
    return Structure(
        model=lm([make(), make()], norm()), inputs=tokens(4), inner="blocks.*.n1",
        last="blocks.*.n2", head="final",
    )  # fmt: skip


@structure
def layer_norm_recurrence() -> Structure:
    """A recurrence that normalises its state, of zeros at first, and adds to it."""

    def forward(m: Net, x: Tensor) -> Tensor:
        state = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            state = state + m.mlp(m.n(state) + m.enter(x[:, t]))
        return m.out(m.final(state))

    model = Net(forward, n=norm(), mlp=mlp(), enter=linear(), final=norm(), out=linear())
    return Structure(model=model, inputs=signal(), inner="n", head="final")


@structure
def signals_that_fade() -> Structure:
    """Small weights at the start, deep branches: what moves ends far below rounding."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.deep(m.n1(x))
        return x + 1e-3 * m.post(x) * m.deep2(m.n2(x)).sigmoid()

    def deep() -> nn.Module:
        net = nn.Sequential(*(layer for _ in range(4) for layer in (linear(), nn.SiLU())))
        for layer in net[::2]:
            nn.init.normal_(layer.weight, std=1e-4)
        return net

    make = lambda: Net(forward, n1=norm(), n2=norm(), post=mlp(), deep=deep(), deep2=deep())
    return Structure(
        model=lm([make(), make()], norm()), inputs=tokens(), inner="blocks.*.n?", head="final"
    )
