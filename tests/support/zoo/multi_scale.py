"""Convolutional networks of several paths or resolutions."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.convnets import bottleneck, chain, stem
from tests.support.zoo.parts import (
    D,
    Net,
    bn,
    conv,
    conv_bn,
    image,
    linear,
    repeat,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


@structure
def res2net() -> Structure:
    """Groups of channels are added to each other within the branch."""

    def forward(m: Net, x: Tensor) -> Tensor:
        parts = m.c1(x).relu().chunk(4, 1)
        made = [parts[0]]
        for i, scale in enumerate(m.scales):
            part = parts[i + 1] if i == 0 else parts[i + 1] + made[-1]
            made.append(scale(part).relu())
        return (x + m.c3(torch.cat(made, 1))).relu()

    make = lambda: Net(
        forward, c1=conv_bn(), c3=conv_bn(), scales=repeat(3, lambda: conv_bn(2, 2, 3))
    )
    return Structure(
        model=chain(stem(), [make(), make()]), inputs=image(), shortcut="stem.1",
        inner="blocks.*.c1.1 blocks.*.scales.*.1", last="blocks.*.c3.1",
    )  # fmt: skip


@structure
def resnest() -> Structure:
    """Split attention: two parts, weighed by a softmax of their sum."""

    def forward(m: Net, x: Tensor) -> Tensor:
        parts = m.split(m.c1(x).relu()).relu().unflatten(1, (2, D))
        pooled = parts.sum(1).mean((2, 3), keepdim=True)
        share = m.f2(m.f1(pooled).relu()).unflatten(1, (2, D)).softmax(1)
        return (m.c3((parts * share).sum(1)) + x).relu()

    make = lambda: Net(
        forward, c1=conv_bn(), split=conv_bn(D, 2 * D, 3, groups=2), f1=conv_bn(D, 4),
        f2=conv(4, 2 * D), c3=conv_bn(),
    )  # fmt: skip
    return Structure(
        model=chain(stem(), [make(), make()]), inputs=image(), shortcut="stem.1",
        inner="blocks.*.c1.1 blocks.*.split.1 blocks.*.f1.1", last="blocks.*.c3.1",
    )  # fmt: skip


def repvgg(forward: Callable[[Net, Tensor], Tensor]) -> Structure:
    def make(same: bool) -> Net:
        stride = 1 if same else 2
        return Net(
            forward, dense=conv_bn(D, D, 3, stride=stride), point=conv_bn(D, D, 1, stride=stride),
            identity=bn() if same else None,
        )  # fmt: skip

    model = chain(nn.ReLU(), [make(True), make(False), make(True)])
    model.stem = nn.Sequential(conv(3, D, 3), nn.ReLU())
    return Structure(
        model=model, inputs=image(), last="blocks.[02].dense.1 blocks.[02].point.1",
        shortcut="blocks.*.identity blocks.1.dense.1 blocks.1.point.1",
    )  # fmt: skip


@structure
def repvgg_identity_last() -> Structure:
    """RepVGG: the skip carries a batch norm of its own."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.dense(x) + m.point(x)
        return (y if m.identity is None else y + m.identity(x)).relu()

    return repvgg(forward)


@structure
def repvgg_identity_first() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.dense(x) if m.identity is None else m.identity(x) + m.dense(x)
        return (y + m.point(x)).relu()

    return repvgg(forward)


@structure
def densenet() -> Structure:
    """Concatenation instead of addition: the rule for models without additions holds."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.c1(m.n1(x).relu())
        return torch.cat([x, m.c2(m.n2(h).relu())], 1)

    def make(size: int) -> Net:
        return Net(forward, n1=bn(size), n2=bn(), c1=conv(size, D), c2=conv(D, 4, 3))

    def run(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.one:
            x = block(x)
        x = F.avg_pool2d(m.between(m.n_between(x).relu()), 2)
        for block in m.two:
            x = block(x)
        return m.out(m.last(x).relu().mean((2, 3)))

    model = Net(
        run, stem=stem(), one=nn.ModuleList([make(8), make(12)]), n_between=bn(16),
        between=conv(16, 8), two=nn.ModuleList([make(8), make(12)]), last=bn(16), out=linear(16, D),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), inner="stem.1 one.*.n? two.*.n? n_between", head="last"
    )


@structure
def hrnet() -> Structure:
    """Two resolutions that are summed at the end, each behind its own weights."""

    def basic(m: Net, x: Tensor) -> Tensor:
        return (x + m.c2(m.c1(x).relu())).relu()

    def forward(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        x = m.stem(x)
        high, low = m.enter_high(x).relu(), m.enter_low(x).relu()
        for one, two in zip(m.high, m.low, strict=True):
            high, low = one(high), two(low)
        up = F.interpolate(m.up(low), scale_factor=2.0)
        return (high + up).relu(), (m.down(high) + low).relu()

    make = lambda: Net(basic, c1=conv_bn(D, D, 3), c2=conv_bn(D, D, 3))
    model = Net(
        forward, stem=stem(), enter_high=conv_bn(), enter_low=conv_bn(D, D, 3, stride=2),
        high=repeat(2, make), low=repeat(2, make), up=conv_bn(), down=conv_bn(D, D, 3, stride=2),
    )  # fmt: skip
    # The sums of the two resolutions start nowhere: no signal reaches one side freely. So they
    # count for nothing, and the last norms are heads.
    return Structure(
        model=model, inputs=image(), shortcut="stem.1 enter_high.1 enter_low.1", head="up.1 down.1",
        inner="high.*.c1.1 low.*.c1.1", last="high.*.c2.1 low.*.c2.1",
    )  # fmt: skip


@structure
def feature_pyramid() -> Structure:
    """Lateral and top-down paths; the stages between them have two blocks each.

    ``lateral + top-down`` is a projection shortcut: one weight on the lateral path, and on the
    other path, through the stage, at least two with a nonlinearity between them. It holds a trunk,
    so the additions of the stage count as if it were not there.
    """

    def forward(m: Net, x: Tensor) -> list[Tensor]:
        c2 = m.stem(x)
        c3 = m.block2(m.block1(c2))
        p3 = m.lateral3(c3)
        p2 = m.lateral2(c2) + F.interpolate(p3, scale_factor=2.0)
        return [m.smooth2(p2), m.smooth3(p3)]

    model = Net(
        forward, stem=stem(), block1=bottleneck(2), block2=bottleneck(), lateral2=conv(),
        lateral3=conv(), smooth2=conv(D, D, 3), smooth3=conv(D, D, 3),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="stem.1 block1.skip.1",
        inner="block?.c1.1 block?.c2.1", last="block?.c3.1",
    )  # fmt: skip
