"""Vision transformers with mixers of their own."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import (
    D,
    Net,
    bn,
    channels_last,
    conv,
    conv_bn,
    image,
    linear,
    mlp,
    norm,
    repeat,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure
from tests.support.zoo.vision import block, patches


@structure
def poolformer() -> Structure:
    """Pooling mixes tokens: no weight stands between the first norm and the addition."""

    def layer(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        x = x + m.scale1[:, None, None] * (F.avg_pool2d(h, 3, 1, 1) - h)
        return x + m.scale2[:, None, None] * m.down(F.gelu(m.up(m.n2(x))))

    make = lambda: Net(
        layer, n1=nn.GroupNorm(1, D), n2=nn.GroupNorm(1, D), up=conv(D, 16), down=conv(16, D),
        scale1=nn.Parameter(torch.full((D,), 0.1)), scale2=nn.Parameter(torch.full((D,), 0.1)),
    )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.patch(x)
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).mean((2, 3)))

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), blocks=repeat(2, make), final=nn.GroupNorm(1, D),
        out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n2", last="blocks.*.n1 blocks.*.scale?",
        head="final",
    )  # fmt: skip


@structure
def xcit() -> Structure:
    """Attention over channels, then a convolutional branch with a batch norm; layer scales."""

    def layer(m: Net, x: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in m.qkv(m.n1(x)).chunk(3, -1))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * m.temperature
        x = x + m.scale1 * m.out((scores.softmax(-1) @ v).transpose(1, 2))
        h = m.n2(x).transpose(1, 2).unflatten(2, (4, 4))
        x = x + m.scale2 * patches(m.c2(m.bn(F.gelu(m.c1(h)))))
        return x + m.scale3 * m.mlp(m.n3(x))

    def make() -> Net:
        scale = lambda: nn.Parameter(torch.ones(D))
        return Net(
            layer, n1=norm(), n2=norm(), n3=norm(), bn=bn(), qkv=linear(D, 3 * D), out=linear(),
            c1=conv(D, D, 3, groups=D), c2=conv(D, D, 3, groups=D), mlp=mlp(), scale1=scale(),
            scale2=scale(), scale3=scale(), temperature=nn.Parameter(torch.ones(1)),
        )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        x = patches(m.second(F.gelu(m.first(x))))
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).mean(1))

    model = Net(
        forward, first=conv_bn(3, D, 3), second=conv_bn(D, D, 3, stride=2), blocks=repeat(2, make),
        final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n? blocks.*.bn", last="blocks.*.scale?",
        shortcut="first.1 second.1", head="final",
    )  # fmt: skip


@structure
def t2t() -> Structure:
    """Tokens-to-token: the skip of its attention starts at the values, behind the norm."""

    def layer(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(m.n1(x)).chunk(3, -1)
        x = v + m.out((q @ k.mT).softmax(-1) @ v)
        return x + m.mlp(m.n2(x))

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.soft(F.unfold(x, 2, stride=2).transpose(1, 2))
        x = m.project(x)
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).mean(1))

    soft = Net(layer, n1=norm(12), n2=norm(), qkv=linear(12, 3 * D), out=linear(), mlp=mlp())
    model = Net(
        forward, soft=soft, project=linear(), blocks=repeat(2, block), final=norm(), out=linear()
    )
    # `soft.n1` feeds the values, and those are the skip.
    return Structure(
        model=model, inputs=image(), shortcut="soft.n1", inner="soft.n2 blocks.*.n?", head="final"
    )


@structure
def cswin() -> Structure:
    """Stripes in two directions, each with a positional convolution added to the values."""

    def attend(q: Tensor, k: Tensor, v: Tensor, position: nn.Module) -> Tensor:
        lepe = position(v.transpose(1, 2)).transpose(1, 2)
        return (q @ k.mT).softmax(-1) @ v + lepe

    def layer(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(m.n1(x)).chunk(3, -1)
        parts = [p.chunk(2, -1) for p in (q, k, v)]
        one = attend(*(p[0] for p in parts), m.lepe1)
        two = attend(*(p[1] for p in parts), m.lepe2)
        x = x + m.out(torch.cat([one, two], -1))
        return x + m.mlp(m.n2(x))

    make = lambda: Net(
        layer, n1=norm(), n2=norm(), qkv=linear(D, 3 * D), out=linear(), mlp=mlp(),
        lepe1=nn.Conv1d(4, 4, 3, padding=1, groups=4),
        lepe2=nn.Conv1d(4, 4, 3, padding=1, groups=4),
    )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter_norm(patches(m.enter(x)))
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).mean(1))

    model = Net(
        forward, enter=nn.Conv2d(3, D, 2, 2), enter_norm=norm(), blocks=repeat(2, make),
        final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="enter_norm", inner="blocks.*.n?", head="final"
    )


@structure
def focalnet() -> Structure:
    """A sum over contexts of growing size, times the query: sums inside the branch."""

    def layer(m: Net, x: Tensor) -> Tensor:
        q, context, gates = m.enter(channels_last(m.n1, x)).split([D, D, 3], 1)
        total = 0.0
        for i, focus in enumerate(m.focus):
            context = F.gelu(focus(context))
            total = total + context * gates[:, i : i + 1]
        total = total + F.gelu(context.mean((2, 3), keepdim=True)) * gates[:, 2:]
        x = x + m.scale[:, None, None] * m.leave(q * m.mix(total))
        return x + channels_last(m.mlp, channels_last(m.n2, x))

    make = lambda: Net(
        layer, n1=norm(), n2=norm(), enter=conv(D, 2 * D + 3), mix=conv(), leave=conv(), mlp=mlp(),
        focus=repeat(2, lambda: conv(D, D, 3, groups=D)), scale=nn.Parameter(torch.ones(D)),
    )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        for each in m.blocks:
            x = each(x)
        return m.out(channels_last(m.final, x).mean((2, 3)))

    model = Net(forward, enter=conv(3, D, 3), blocks=repeat(2, make), final=norm(), out=linear())
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n?", last="blocks.*.scale", head="final"
    )
