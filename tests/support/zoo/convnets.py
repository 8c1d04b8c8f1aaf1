"""Convolutional networks: residual, inverted, dense, multi-scale, with and without norms."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import D, Net, bn, conv, conv_bn, image, linear, norm
from tests.support.zoo.structure import Structure, structure


def chain(stem: nn.Module, blocks: list[nn.Module], last: nn.Module | None = None) -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            x = block(x)
        return m.out(m.last(x).mean((2, 3)))

    return Net(
        forward, stem=stem, blocks=nn.ModuleList(blocks), last=last or nn.Identity(), out=linear()
    )


def stem() -> nn.Sequential:
    return nn.Sequential(*conv_bn(3, D, 3), nn.ReLU())


class Squeeze(nn.Module):
    def __init__(self, size: int = D) -> None:
        super().__init__()
        self.down, self.up = conv(size, 4), conv(4, size)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def bottleneck(stride: int = 1, excite: bool = False, pooled: bool = False, **more: int) -> Net:
    """ResNet's block; its last norm may be gated, its skip may be pooled and projected."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.gate(m.c3(m.c2(m.c1(x).relu()).relu()))
        return (y + m.skip(x)).relu()

    skip: nn.Module = nn.Identity()
    if pooled:
        skip = nn.Sequential(nn.AvgPool2d(2), conv_bn())
    elif stride == 2:
        skip = conv_bn(stride=2)
    return Net(
        forward, c1=conv_bn(), c2=conv_bn(D, D, 3, stride=stride, **more), c3=conv_bn(),
        gate=Squeeze() if excite else nn.Identity(), skip=skip,
    )  # fmt: skip


BOTTLENECKS = {"inner": "blocks.*.c1.1 blocks.*.c2.1", "last": "blocks.*.c3.1"}


@structure
def resnet_v1() -> Structure:
    model = chain(stem(), [bottleneck(), bottleneck(2), bottleneck()])
    return Structure(model=model, inputs=image(), shortcut="stem.1 blocks.1.skip.1", **BOTTLENECKS)


@structure
def resnet_d() -> Structure:
    """A deep stem, and average pooling before the projection on the skip."""
    deep = nn.Sequential(*stem(), *conv_bn(D, D, 3), nn.ReLU(), nn.MaxPool2d(2))
    model = chain(deep, [bottleneck(), bottleneck(2, pooled=True), bottleneck()])
    return Structure(
        model=model, inputs=image(size=16), shortcut="stem.1 stem.4 blocks.1.skip.1.1",
        **BOTTLENECKS,
    )  # fmt: skip


@structure
def regnet() -> Structure:
    """Grouped convolutions with squeeze and excitation; every stage begins with a projection."""
    blocks = [bottleneck(2, excite=True, groups=2), bottleneck(1, excite=True, groups=2)]
    return Structure(
        model=chain(stem(), blocks), inputs=image(), shortcut="stem.1 blocks.0.skip.1",
        **BOTTLENECKS,
    )  # fmt: skip


@structure
def resnet_v2() -> Structure:
    """Norms first; where the skip is projected, it starts behind the first norm."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x).relu()
        skip = m.skip(h) if m.projected else x
        return skip + m.c2(m.n2(m.c1(h)).relu())

    def make(stride: int) -> Net:
        net = Net(
            forward, n1=bn(), n2=bn(), c1=conv(D, D, 3, stride=stride), c2=conv(D, D, 3),
            skip=conv(stride=2) if stride == 2 else None,
        )  # fmt: skip
        net.projected = stride == 2
        return net

    last = nn.Sequential(bn(), nn.ReLU())
    model = chain(conv(3, D, 3), [make(1), make(2), make(1)], last)
    return Structure(
        model=model, inputs=image(), shortcut="blocks.1.n1", head="last.0",
        inner="blocks.0.n1 blocks.2.n1 blocks.*.n2",
    )  # fmt: skip


@structure
def efficientnet() -> Structure:
    """Inverted bottlenecks with linear ends; the shrinking ones have no addition."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.c3(m.gate(F.silu(m.c2(F.silu(m.c1(x))))))
        return x + y if m.same else y

    def make(stride: int) -> Net:
        net = Net(
            forward, c1=conv_bn(D, 16), c2=conv_bn(16, 16, 3, stride=stride, groups=16),
            gate=Squeeze(16), c3=conv_bn(16, D),
        )  # fmt: skip
        net.same = stride == 1
        return net

    last = nn.Sequential(*conv_bn(), nn.SiLU())
    model = chain(stem(), [make(1), make(2), make(1)], last)
    return Structure(
        model=model, inputs=image(), head="last.1", shortcut="stem.1 blocks.1.c?.1",
        inner="blocks.0.c1.1 blocks.0.c2.1 blocks.2.c1.1 blocks.2.c2.1",
        last="blocks.0.c3.1 blocks.2.c3.1",
    )  # fmt: skip


@structure
def convnext_v1() -> Structure:
    """Layer scale; layer norms as stem, between stages and before the head."""

    class ChannelNorm(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(m.depthwise(x).permute(0, 2, 3, 1))
        return x + (m.scale * m.down(F.gelu(m.up(h)))).permute(0, 3, 1, 2)

    make = lambda: Net(
        forward, n=norm(), depthwise=conv(D, D, 3, groups=D), up=linear(D, 16), down=linear(16, D),
        scale=nn.Parameter(torch.full((D,), 1e-6)),
    )  # fmt: skip
    between = nn.Sequential(ChannelNorm(D), nn.Conv2d(D, D, 2, 2))
    first = nn.Sequential(nn.Conv2d(3, D, 2, 2), ChannelNorm(D))
    model = chain(first, [make(), make(), between, make()], ChannelNorm(D))
    return Structure(
        model=model, inputs=image(), shortcut="stem.1 blocks.2.0", head="last",
        inner="blocks.[013].n", last="blocks.[013].scale",
    )  # fmt: skip


@structure
def convnext_v2() -> Structure:
    """Global response normalisation weighs channels within the branch.

    What it divides by a mean is the size of each channel, not the signal: whether its own ``gamma``
    is a gain, the definitions do not say.
    """

    class Response(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma, self.beta = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))

        def forward(self, x: Tensor) -> Tensor:
            size = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
            return self.gamma * (x * (size / (size.mean(-1, keepdim=True) + 1e-6))) + self.beta + x

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(m.depthwise(x).permute(0, 2, 3, 1))
        return x + m.down(m.response(F.gelu(m.up(h)))).permute(0, 3, 1, 2)

    make = lambda: Net(
        forward, n=norm(), depthwise=conv(D, D, 3, groups=D), up=linear(D, 16), down=linear(16, D),
        response=Response(),
    )  # fmt: skip
    model = chain(nn.Conv2d(3, D, 2, 2), [make(), make()])
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n", unsure="blocks.*.response.gamma"
    )


@structure
def nfnet() -> Structure:
    """No norm of the signal: standardised weights, a number on each branch, fixed factors."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
            weight = (self.weight - mean) * torch.rsqrt(variance + 1e-4)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.c2(F.silu(m.c1(F.silu(x) * 0.9)))
        return x + 0.2 * m.scale * m.gate(h)

    make = lambda: Net(
        forward, c1=Standardised(D, D, 1), c2=Standardised(D, D, 3, padding=1), gate=Squeeze(),
        scale=nn.Parameter(torch.zeros(())),
    )  # fmt: skip
    return Structure(
        model=chain(conv(3, D, 3), [make(), make()]), inputs=image(), last="blocks.*.scale"
    )
