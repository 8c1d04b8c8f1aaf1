"""Networks of convolutions and attention in turn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import (
    D,
    Net,
    bn,
    conv,
    conv_bn,
    image,
    linear,
    norm,
    repeat,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure
from tests.support.zoo.vision import block, patches


def mbconv(m: Net, x: Tensor) -> Tensor:
    """An inverted residual with squeeze and excitation, its norm first."""
    h = m.c1(m.n0(x))
    h = m.n2(m.c2(F.silu(m.n1(h))))
    h = F.silu(h)
    gate = m.excite(F.silu(m.squeeze(h.mean((2, 3), keepdim=True)))).sigmoid()
    skip = m.skip(F.avg_pool2d(x, 2)) if m.stride == 2 else x
    return skip + m.c3(h * gate)


@structure
def maxvit() -> Structure:
    """A convolutional block, then attention within windows and across a grid."""

    def make(stride: int) -> Net:
        net = Net(
            mbconv, n0=bn(), n1=bn(), n2=bn(), c1=conv(), c2=conv(D, D, 3, stride=stride, groups=D),
            c3=conv(), squeeze=conv(D, 2), excite=conv(2, D), skip=conv() if stride == 2 else None,
        )  # fmt: skip
        net.stride = stride
        return net

    def windows(m: Net, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        return m(x).view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)

    def grid(m: Net, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c, 2, h // 2, 2, w // 2).permute(0, 3, 5, 2, 4, 1).reshape(-1, 4, c)
        return m(x).view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 3, 1, 4, 2).reshape(b, c, h, w)

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem2(F.silu(m.stem_bn(m.stem(x))))
        for convolution, one, two in zip(m.convs, m.local, m.grid, strict=True):
            x = grid(two, windows(one, convolution(x)))
        return m.out(m.final(x.mean((2, 3))))

    model = Net(
        forward, stem=conv(3, D, 3), stem_bn=bn(), stem2=conv(D, D, 3),
        convs=nn.ModuleList([make(2), make(1)]), local=repeat(2, block), grid=repeat(2, block),
        final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="stem_bn", head="final",
        inner="convs.*.n? local.*.n? grid.*.n?",
    )  # fmt: skip


@structure
def mobilevit() -> Structure:
    """Inverted residuals, and a transformer between convolutions, joined by concatenation."""

    def inverted(m: Net, x: Tensor) -> Tensor:
        y = m.c3(F.silu(m.c2(F.silu(m.c1(x)))))
        return x + y if m.same else y

    def make(stride: int) -> Net:
        net = Net(
            inverted, c1=conv_bn(D, 16), c2=conv_bn(16, 16, 3, stride=stride, groups=16),
            c3=conv_bn(16, D),
        )  # fmt: skip
        net.same = stride == 1
        return net

    def forward(m: Net, x: Tensor) -> Tensor:
        x = F.silu(m.stem(x))
        x = m.shrink(m.keep(x))
        h = m.to_tokens(F.silu(m.local(x)))
        h = patches(h)
        for each in m.blocks:
            h = each(h)
        h = m.tokens_norm(h).transpose(1, 2).unflatten(2, x.shape[2:])
        x = F.silu(m.fuse(torch.cat([x, F.silu(m.back(h))], 1)))
        return m.out(F.silu(m.last(m.keep2(x))).mean((2, 3)))

    model = Net(
        forward, stem=conv_bn(3, D, 3), keep=make(1), shrink=make(2), local=conv_bn(D, D, 3),
        to_tokens=conv(), blocks=repeat(2, block), tokens_norm=norm(), back=conv_bn(),
        fuse=conv_bn(2 * D, D, 3), keep2=make(1), last=conv_bn(), out=linear(),
    )  # fmt: skip
    # Everything between two residual blocks, the shrinking block included, scales the next skip.
    return Structure(
        model=model, inputs=image(), inner="keep*.c1.1 keep*.c2.1 blocks.*.n?",
        last="keep*.c3.1", head="last.1",
        shortcut="stem.1 shrink.c?.1 local.1 tokens_norm back.1 fuse.1",
    )  # fmt: skip
