"""Residual additions whose skip and branch are weighed by gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.zoo.language import stack
from tests.support.zoo.parts import (
    D,
    Net,
    linear,
    mlp,
    norm,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def vector(value: float = 0.5) -> nn.Parameter:
    return nn.Parameter(torch.full((D,), value))


def gated(join: Callable[[Net, Tensor, Tensor], Tensor], **members: object) -> Net:
    """Two pre-norm blocks in which ``join`` brings skip and branch together."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return join(m, x, m.mlp(m.n(x)))

    def make() -> Net:
        fresh = {k: v() if callable(v) else v for k, v in members.items()}
        return Net(forward, n=norm(), mlp=mlp(), **fresh)

    return stack(make)


@structure
def highway() -> Structure:
    def join(m: Net, x: Tensor, y: Tensor) -> Tensor:
        gate = m.gate(x).sigmoid()
        return gate * y + (1 - gate) * x

    return Structure(
        model=gated(join, gate=linear), inputs=tokens(), inner="blocks.*.n", head="final"
    )


@structure
def lerp_gate() -> Structure:
    model = gated(lambda m, x, y: torch.lerp(x, y, m.gate), gate=lambda: number(0.4))
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", other="blocks.*.gate", head="final"
    )


@structure
def written_gate() -> Structure:
    model = gated(lambda m, x, y: (1 - m.gate) * x + m.gate * y, gate=vector)
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", other="blocks.*.gate", head="final"
    )


@structure
def difference_gate() -> Structure:
    """The same interpolation as ``x + a (y - x)``."""
    model = gated(lambda m, x, y: x + m.gate * (y - x), gate=vector)
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", other="blocks.*.gate", head="final"
    )


@structure
def root_gate() -> Structure:
    def join(m: Net, x: Tensor, y: Tensor) -> Tensor:
        gate = m.gate.sigmoid()
        return gate.sqrt() * x + (1 - gate).sqrt() * y

    return Structure(
        model=gated(join, gate=vector), inputs=tokens(), inner="blocks.*.n",
        other="blocks.*.gate", head="final",
    )  # fmt: skip


@structure
def tanh_gate() -> Structure:
    """Flamingo: tanh of a number scales the branch, and vanishes where the number does."""
    model = gated(lambda m, x, y: x + m.gate.tanh() * y, gate=lambda: number(0.0))
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", last="blocks.*.gate", head="final"
    )


@structure
def recurrent_gate() -> Structure:
    """GTrXL: a GRU joins skip and branch."""

    def join(m: Net, x: Tensor, y: Tensor) -> Tensor:
        r = (m.wr(y) + m.ur(x)).sigmoid()
        z = (m.wz(y) + m.uz(x)).sigmoid()
        return (1 - z) * x + z * (m.wg(y) + m.ug(r * x)).tanh()

    members = dict.fromkeys(("wr", "ur", "wz", "uz", "wg", "ug"), linear)
    # The branch decides, through z, how much of the skip is kept: its norm reaches the skip.
    return Structure(
        model=gated(join, **members), inputs=tokens(), shortcut="blocks.*.n", head="final"
    )
