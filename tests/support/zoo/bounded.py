"""Norms of other kinds: without a statistic, with other parameters, or of the weights."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.normalisers import around, named, ones
from tests.support.zoo.parts import (
    D,
    Net,
    image,
    linear,
    mlp,
    repeat,
    signal,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


@structure
def evonorm() -> Structure:
    """EvoNorm-S0: a gated signal over the deviation of groups; ``v`` is no gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (2, -1))
        spread = (groups.var((2, 3, 4), keepdim=True) + 1e-5).sqrt().expand_as(groups)
        return x * (m.v * x).sigmoid() / spread.flatten(1, 2) * m.g + m.b

    shape = lambda: ones(1, D, 1, 1)
    return around(
        lambda: named("EvoNorm", forward, g=shape, b=shape, v=shape), image(),
        inner="blocks.*.n.g", head="final.g", other="blocks.*.n.v final.v",
    )  # fmt: skip


@structure
def filter_response_norm() -> Structure:
    """FRN with its thresholded unit; ``tau`` and a learned ``eps`` are no gains."""

    def forward(m: Net, x: Tensor) -> Tensor:
        square = x.pow(2).mean((2, 3), keepdim=True)
        return torch.maximum(x * torch.rsqrt(square + m.eps.abs()) * m.g + m.b, m.tau)

    shape = lambda: ones(1, D, 1, 1)
    return around(
        lambda: named(
            "FilterResponseNorm", forward, g=shape, b=shape, tau=shape, eps=lambda: ones(1)
        ),
        image(), inner="blocks.*.n.g", head="final.g",
        other="blocks.*.n.tau blocks.*.n.eps final.tau final.eps",
    )  # fmt: skip


@structure
def dynamic_tanh() -> Structure:
    """DyT: no statistic, a bounded function of the signal times one number."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.g * torch.tanh(m.alpha * x) + m.b

    return around(
        lambda: named("DyT", forward, g=ones, b=ones, alpha=lambda: ones(1)),
        inner="blocks.*.n.g", head="final.g", other="blocks.*.n.alpha final.alpha",
    )  # fmt: skip


@structure
def dynamic_erf() -> Structure:
    """Derf: the error function of the signal times one number, plus another."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.g * torch.erf(m.alpha * x + m.shift) + m.b

    one = lambda: ones(1)
    return around(
        lambda: named("Derf", forward, g=ones, b=ones, alpha=one, shift=one),
        inner="blocks.*.n.g", head="final.g", other="blocks.*.n.alpha final.alpha",
    )  # fmt: skip


@structure
def dynamic_tanh_post_norm() -> Structure:
    """DyT takes its place like a norm: after the addition it scales the next skip."""

    class DyT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias, self.alpha = ones(), ones(), ones(1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x * self.alpha) * self.weight + self.bias

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        for f, n in zip(m.f, m.n, strict=True):
            x = n(x + f(x))
        return m.out(x)

    model = Net(forward, enter=linear(), f=repeat(3, mlp), n=repeat(3, DyT), out=linear())
    return Structure(
        model=model, inputs=signal(), shortcut="n.0 n.1", head="n.2", other="n.*.alpha"
    )


@structure
def gain_before_the_norm() -> Structure:
    """The factor is divided out again up to ratios: no gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return F.layer_norm(x * m.w, (D,))

    return around(lambda: named("EarlyNorm", forward, w=ones), other="blocks.*.n.w final.w")


@structure
def weight_standardised_convolution() -> Structure:
    """BiT: the weights are standardised, and group norms take their usual places."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            w = self.weight
            w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
            return F.conv2d(x, w, self.bias, self.stride, self.padding)

    def block(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x).relu()
        skip = m.skip(h) if m.skip is not None else x
        return skip + m.c2(m.n2(m.c1(h)).relu())

    def make(projected: bool) -> Net:
        return Net(
            block, n1=nn.GroupNorm(2, D), n2=nn.GroupNorm(2, D), c1=Standardised(D, D, 1),
            c2=Standardised(D, D, 3, padding=1), skip=Standardised(D, D, 1) if projected else None,
        )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).relu().mean((2, 3)))

    model = Net(
        forward, enter=Standardised(3, D, 3, padding=1), final=nn.GroupNorm(2, D), out=linear(),
        blocks=nn.ModuleList([make(True), make(False)]),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="blocks.0.n1", inner="blocks.1.n1 blocks.*.n2",
        head="final",
    )  # fmt: skip


def chain(make: Callable[[], nn.Module], gain: str) -> Structure:
    """A network without additions: what a later norm renormalises is inner, the last is a head."""

    def forward(m: Net, x: Tensor) -> Tensor:
        for f, n in zip(m.f, m.n, strict=True):
            x = n(f(x)).relu()
        return m.out(x)

    model = Net(forward, f=repeat(3, linear), n=repeat(3, make), out=linear())
    return Structure(
        model=model, inputs=signal(), inner=f"n.0.{gain} n.1.{gain}", head=f"n.2.{gain}"
    )


@structure
def dynamic_tanh_without_additions() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.g * torch.tanh(m.alpha * x)

    return chain(lambda: named("DyT", forward, g=ones, alpha=lambda: ones(1)), "g")


@structure
def folded_batch_norm_without_additions() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return x * (m.g * torch.rsqrt(m.variance + 1e-5))

    def make() -> nn.Module:
        net = named("Folded", forward, g=ones)
        net.register_buffer("variance", torch.rand(D) + 0.5)
        return net

    return chain(make, "g")
