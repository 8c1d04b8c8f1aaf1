"""Networks under an outer skip: restoration, forecasting around a normalised series, U-shapes."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    channels_last,
    conv,
    conv_bn,
    image,
    linear,
    mlp,
    norm,
    repeat,
    signal,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def pre(m: Net, x: Tensor) -> Tensor:
    x = x + m.attention(m.n1(x))
    return x + m.mlp(m.n2(x))


def after(m: Net, x: Tensor) -> Tensor:
    x = m.n1(x + m.attention(x))
    return m.n2(x + m.mlp(x))


def block(run: object = pre) -> Net:
    return Net(run, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())


@structure
def restoration_post_norm() -> Structure:
    """``x + net(x)`` around a post-norm network, which stays one."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.enter(x)
        for each in m.blocks:
            h = each(h)
        return x + m.leave(h)

    model = Net(forward, enter=linear(), blocks=repeat(2, lambda: block(after)), leave=linear())
    # The last norm feeds the outer addition's branch.
    return Structure(
        model=model, inputs=signal(), shortcut="blocks.?.n1 blocks.0.n2", inner="blocks.1.n2"
    )


@structure
def restoration_residual_groups() -> Structure:
    """SwinIR, RCAN: blocks in groups, groups in a network, a skip around each."""

    def group(m: Net, x: Tensor) -> Tensor:
        h = x
        for each in m.blocks:
            h = channels_last(each, h)
        return x + m.c(h)

    def blocks(m: Net, x: Tensor) -> Tensor:
        x = x + m.mlp(m.n1(x))
        return x + m.mlp2(m.n2(x))

    def forward(m: Net, x: Tensor) -> Tensor:
        shallow = m.enter(x)
        h = shallow
        for each in m.groups:
            h = each(h)
        h = shallow + m.c(channels_last(m.final, h))
        return x + m.leave(h)

    make = lambda: Net(
        group, c=conv(D, D, 3),
        blocks=repeat(2, lambda: Net(blocks, n1=norm(), n2=norm(), mlp=mlp(), mlp2=mlp())),
    )  # fmt: skip
    model = Net(
        forward, enter=conv(3, D, 3), groups=repeat(2, make), final=norm(), c=conv(D, D, 3),
        leave=conv(D, 3, 3),
    )  # fmt: skip
    return Structure(model=model, inputs=image(), inner="groups.*.blocks.*.n? final")


@structure
def restoration_sandwich() -> Structure:
    """Post-branch norms under an outer skip still end their branches."""

    def layer(m: Net, x: Tensor) -> Tensor:
        return x + m.n2(m.mlp(m.n1(x)))

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.enter(x)
        for each in m.blocks:
            h = each(h)
        return x - m.leave(m.final(h))

    blocks = repeat(3, lambda: Net(layer, n1=norm(), n2=norm(), mlp=mlp()))
    model = Net(forward, enter=linear(), blocks=blocks, final=norm(), leave=linear())
    return Structure(model=model, inputs=signal(), inner="blocks.*.n1 final", last="blocks.*.n2")


@structure
def adapters() -> Structure:
    """A sum inside a branch, between two weights, is part of that branch."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.attention(m.n1(x))
        x = x + h + m.adapter(m.n_adapter(h))
        h = m.up(m.n2(x))
        h = h + m.inner(m.n_inner(h))
        return x + m.down(h.relu())

    def run(m: Net, x: Tensor) -> Tensor:
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), n_adapter=norm(), n_inner=norm(), attention=Attention(),
        adapter=mlp(), up=linear(), inner=mlp(), down=linear(),
    )  # fmt: skip
    model = Net(run, blocks=repeat(2, make), final=norm(), out=linear())
    return Structure(
        model=model, inputs=signal(), head="final",
        inner="blocks.*.n1 blocks.*.n2 blocks.*.n_adapter blocks.*.n_inner",
    )  # fmt: skip


def conv_block() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        return (x + m.c2(m.c1(x).relu())).relu()

    return Net(forward, c1=conv_bn(D, D, 3), c2=conv_bn(D, D, 3))


@structure
def unet_by_concatenation() -> Structure:
    """The classic U-Net of residual blocks: its long skips are joined, not added."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x).relu()
        kept = []
        for each in m.down:
            x = each(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = m.middle(x)
        for join, each in zip(m.join, m.up, strict=True):
            x = F.interpolate(x, scale_factor=2.0)
            x = each(join(torch.cat([x, kept.pop()], 1)).relu())
        return m.out(x)

    model = Net(
        forward, enter=conv_bn(3, D, 3), down=repeat(2, conv_block), middle=conv_block(),
        join=repeat(2, lambda: conv_bn(2 * D, D)), up=repeat(2, conv_block), out=conv(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="enter.1 join.*.1",
        inner="down.*.c1.1 middle.c1.1 up.*.c1.1", last="down.*.c2.1 middle.c2.1 up.*.c2.1",
    )  # fmt: skip


@structure
def hourglass_by_addition() -> Structure:
    """An hourglass: long skips are added, around two blocks at half the size."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x).relu()
        low = m.low2(m.low1(F.max_pool2d(x, 2)))
        x = x + F.interpolate(m.back(low), scale_factor=2.0)
        return m.out(m.last(x))

    model = Net(
        forward, enter=conv_bn(3, D, 3), low1=conv_block(), low2=conv_block(), back=conv_bn(),
        last=conv_block(), out=conv(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="enter.1", inner="*.c1.1",
        last="*.c2.1 back.1",
    )  # fmt: skip


def forecaster(run: object, final: bool, var: bool) -> Net:
    """RevIN: the series is normalised, forecast, and brought back to its own scale."""

    def forward(m: Net, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = x.var(1, keepdim=True, unbiased=False) if var else (x - mean).pow(2).mean(1, True)
        spread = (spread + 1e-5).sqrt()
        h = m.embed(((x - mean) / spread).transpose(1, 2))
        for each in m.blocks:
            h = each(h)
        y = m.out(m.final(h)).transpose(1, 2)
        return y * spread + mean

    return Net(
        forward, embed=linear(12, D), blocks=repeat(2, lambda: block(run)),
        final=norm() if final else nn.Identity(), out=linear(D, 6),
    )  # fmt: skip


@structure
def itransformer() -> Structure:
    """Variates are tokens, post-norm; the outer skip carries the series' mean."""
    model = forecaster(after, False, True)
    return Structure(
        model=model, inputs=signal(2, 12, 5), shortcut="blocks.?.n1 blocks.0.n2",
        inner="blocks.1.n2",
    )  # fmt: skip


@structure
def itransformer_pre_norm() -> Structure:
    model = forecaster(pre, True, True)
    return Structure(model=model, inputs=signal(2, 12, 5), inner="blocks.*.n? final")


@structure
def deviation_of_what_is_left() -> Structure:
    """The same with the deviation taken of ``x - mean``, so the mean reaches both sides freely."""
    model = forecaster(pre, True, False)
    return Structure(model=model, inputs=signal(2, 12, 5), inner="blocks.*.n?", head="final")


@structure
def last_value_forecaster() -> Structure:
    """NLinear, with blocks: the last value is taken off and put back."""

    def forward(m: Net, x: Tensor) -> Tensor:
        last = x[:, -1:]
        h = m.embed((x - last).transpose(1, 2))
        for each in m.blocks:
            h = each(h)
        return m.out(m.final(h)).transpose(1, 2) + last

    model = Net(
        forward, embed=linear(12, D), blocks=repeat(2, block), final=norm(), out=linear(D, 6)
    )
    return Structure(model=model, inputs=signal(2, 12, 5), inner="blocks.*.n? final")
