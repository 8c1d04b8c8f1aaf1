"""Vision transformers: windows, pooling, class attention, several resolutions."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    heads,
    image,
    linear,
    mlp,
    norm,
    repeat,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def pre(m: Net, x: Tensor) -> Tensor:
    x = x + m.attention(m.n1(x))
    return x + m.mlp(m.n2(x))


def block() -> Net:
    return Net(pre, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())


def patches(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


@structure
def vit() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = patches(m.patch(x))
        x = torch.cat([m.cls.expand(len(x), -1, -1), x], 1) + m.positions
        for layer in m.blocks:
            x = layer(x)
        return m.out(m.final(x)[:, 0])

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), cls=nn.Parameter(torch.randn(1, 1, D)),
        positions=nn.Parameter(torch.randn(1, 17, D)), blocks=repeat(2, block), final=norm(),
        out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=image(), inner="blocks.*.n?", head="final")


@structure
def beit() -> Structure:
    """Layer scale on both branches, a learned bias on the scores, mean pooling before the norm."""

    def attend(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(part) for part in m.qkv(x).chunk(3, -1))
        scores = q @ k.mT + m.bias[m.index]
        return m.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))

    def layer(m: Net, x: Tensor) -> Tensor:
        x = x + m.scale1 * attend(m, m.n1(x))
        return x + m.scale2 * m.mlp(m.n2(x))

    def make() -> Net:
        scale = lambda: nn.Parameter(torch.full((D,), 0.1))
        net = Net(
            layer, n1=norm(), n2=norm(), qkv=linear(D, 3 * D), out=linear(), mlp=mlp(),
            scale1=scale(), scale2=scale(), bias=nn.Parameter(torch.randn(31)),
        )  # fmt: skip
        places = torch.arange(16)
        net.register_buffer("index", places[:, None] - places + 15)
        return net

    def forward(m: Net, x: Tensor) -> Tensor:
        x = patches(m.patch(x))
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x.mean(1)))

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), blocks=repeat(2, make), final=norm(), out=linear()
    )
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n?", last="blocks.*.scale?", head="final"
    )


@structure
def cait() -> Structure:
    """Layer scale, then class attention: the class token alone is updated."""

    def layer(m: Net, x: Tensor) -> Tensor:
        x = x + m.scale1 * m.attention(m.n1(x))
        return x + m.scale2 * m.mlp(m.n2(x))

    def read(m: Net, x: Tensor, cls: Tensor) -> Tensor:
        both = m.n1(torch.cat([cls, x], 1))
        cls = cls + m.scale1 * m.attention(both[:, :1], both)
        return cls + m.scale2 * m.mlp(m.n2(cls))

    def forward(m: Net, x: Tensor) -> Tensor:
        x = patches(m.patch(x)) + m.positions
        for each in m.blocks:
            x = each(x)
        cls = m.cls.expand(len(x), -1, -1)
        for each in m.readers:
            cls = each(x, cls)
        return m.out(m.final(torch.cat([cls, x], 1))[:, 0])

    def make(run: object) -> Net:
        scale = lambda: nn.Parameter(torch.full((D,), 0.1))
        return Net(
            run, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp(), scale1=scale(),
            scale2=scale(),
        )  # fmt: skip

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), positions=nn.Parameter(torch.randn(1, 16, D)),
        cls=nn.Parameter(torch.randn(1, 1, D)), blocks=repeat(2, lambda: make(layer)),
        readers=repeat(2, lambda: make(read)), final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), inner="blocks.*.n? readers.*.n?",
        last="blocks.*.scale? readers.*.scale?", head="final",
    )  # fmt: skip


@structure
def crossvit() -> Structure:
    """Two patch sizes; a class token visits the other stream and comes back."""

    def forward(m: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        small, large = patches(m.patch2(x)), patches(m.patch4(x))
        for one, two in zip(m.small, m.large, strict=True):
            small, large = one(small), two(large)
        # linear(gelu(norm(cls))) makes the skip of the cross attention: its norm scales a skip.
        guest = m.there(m.there_norm(small[:, :1]).relu())
        guest = guest + m.cross(m.cross_norm(torch.cat([guest, large], 1)))[:, :1]
        back = m.back(m.back_norm(guest).relu())
        small = torch.cat([back, small[:, 1:]], 1)
        return m.out(m.final1(small)[:, 0]), m.out2(m.final2(large)[:, 0])

    model = Net(
        forward, patch2=nn.Conv2d(3, D, 2, 2), patch4=nn.Conv2d(3, D, 4, 4),
        small=repeat(2, block), large=repeat(2, block), there=linear(), there_norm=norm(),
        cross=Attention(), cross_norm=norm(), back=linear(), back_norm=norm(), final1=norm(),
        final2=norm(), out=linear(), out2=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), inner="small.*.n? large.*.n? cross_norm",
        shortcut="there_norm", head="back_norm final1 final2",
    )  # fmt: skip
