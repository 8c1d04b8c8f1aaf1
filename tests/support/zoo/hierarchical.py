"""Vision transformers that shrink the image on their way: windows, pooling, convolutions."""

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
    heads,
    image,
    linear,
    mlp,
    norm,
    repeat,
    signal,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure
from tests.support.zoo.vision import patches


@structure
def cvt() -> Structure:
    """Convolutional projections with batch norms; each stage begins with convolution and norm."""

    def layer(m: Net, x: Tensor) -> Tensor:
        h = channels_last(m.n1, x)
        q, k, v = (patches(part(h)) for part in (m.q, m.k, m.v))
        mixed = m.out((m.to_q(q) @ m.to_k(k).mT).softmax(-1) @ m.to_v(v))
        x = x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + channels_last(m.mlp, channels_last(m.n2, x))

    make = lambda: Net(
        layer, n1=norm(), n2=norm(), mlp=mlp(), q=conv_bn(size=3, groups=D),
        k=conv_bn(size=3, groups=D), v=conv_bn(size=3, groups=D), to_q=linear(), to_k=linear(),
        to_v=linear(), out=linear(),
    )  # fmt: skip

    def forward(m: Net, x: Tensor) -> Tensor:
        for enter, n, layers in zip(m.enter, m.n, m.stages, strict=True):
            x = channels_last(n, enter(x))
            for each in layers:
                x = each(x)
        return m.out(m.final(patches(x)).mean(1))

    model = Net(
        forward, enter=nn.ModuleList([conv(3, D, 3), nn.Conv2d(D, D, 2, 2)]), n=repeat(2, norm),
        stages=repeat(2, lambda: repeat(2, make)), final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=image(), shortcut="n.*", head="final",
        inner="stages.*.*.n? stages.*.*.q.1 stages.*.*.k.1 stages.*.*.v.1",
    )  # fmt: skip


@structure
def levit() -> Structure:
    """Batch norms after every linear layer; attention shrinks the map without a residual."""

    class LinearBN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.bn = linear(), nn.BatchNorm1d(D)

        def forward(self, x: Tensor) -> Tensor:
            x = self.c(x)
            return self.bn(x.flatten(0, 1)).view_as(x)

    def attend(m: Net, x: Tensor, queries: Tensor) -> Tensor:
        scores = m.q(queries) @ m.k(x).mT + m.bias[: queries.shape[1], : x.shape[1]]
        return m.proj(F.hardswish(scores.softmax(-1) @ m.v(x)))

    def layer(m: Net, x: Tensor) -> Tensor:
        x = x + attend(m, x, x)
        return x + m.down(F.hardswish(m.up(x)))

    def make(run: object) -> Net:
        parts = {name: LinearBN() for name in ("q", "k", "v", "proj", "up", "down")}
        return Net(run, bias=nn.Parameter(torch.randn(16, 16)), **parts)

    def forward(m: Net, x: Tensor) -> Tensor:
        x = patches(m.second(F.hardswish(m.first(x))))
        for each in m.one:
            x = each(x)
        x = attend(m.shrink, x, x[:, ::2])
        x = x + m.shrink.down(F.hardswish(m.shrink.up(x)))
        for each in m.two:
            x = each(x)
        return m.out(m.head_bn(x.mean(1)))

    model = Net(
        forward, first=conv_bn(3, D, 3), second=conv_bn(D, D, 1, stride=2),
        one=repeat(2, lambda: make(layer)), shrink=make(attend), two=repeat(2, lambda: make(layer)),
        head_bn=nn.BatchNorm1d(D), out=linear(),
    )  # fmt: skip
    inner = [f"{s}.*.{n}.bn" for s in ("one", "two") for n in ("q", "k", "v", "up")]
    last = [f"{s}.*.{n}.bn" for s in ("one", "two") for n in ("proj", "down")]
    # What the shrinking attention makes is the next skip.
    return Structure(
        model=model, inputs=image(), inner=" ".join([*inner, "shrink.up.bn"]),
        last=" ".join([*last, "shrink.down.bn"]), head="head_bn",
        shortcut="first.1 second.1 shrink.q.bn shrink.k.bn shrink.v.bn shrink.proj.bn",
    )  # fmt: skip


def swin(after: bool) -> Net:
    """Two stages of windowed blocks; version 2 puts its norms after the branches."""

    def layer(m: Net, x: Tensor) -> Tensor:
        shifted = x.roll(1, 1)
        if after:
            q, k, v = (heads(part) for part in m.qkv(shifted).chunk(3, -1))
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            scale = m.logit_scale.clamp(max=4.6).exp()
            bias = 16 * m.table(m.coordinates).permute(2, 0, 1).sigmoid()
            mixed = m.out((((q @ k.mT) * scale + bias).softmax(-1) @ v).transpose(1, 2).flatten(-2))
            x = x + m.n1(mixed.roll(-1, 1))
            return x + m.n2(m.mlp(x))
        x = x + m.attention(m.n1(shifted)).roll(-1, 1)
        return x + m.mlp(m.n2(x))

    def make() -> Net:
        if not after:
            return Net(layer, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
        net = Net(
            layer, n1=norm(), n2=norm(), mlp=mlp(), qkv=linear(D, 3 * D), out=linear(),
            logit_scale=nn.Parameter(torch.ones(2, 1, 1)),
            table=nn.Sequential(linear(1, D), nn.ReLU(), linear(D, 2)),
        )  # fmt: skip
        places = torch.arange(8.0)
        net.register_buffer("coordinates", (places[:, None] - places)[..., None])
        return net

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.patch_norm(patches(m.patch(x)))[:, :8]
        for each in m.one:
            x = each(x)
        x = x.unflatten(1, (4, 2)).flatten(2)
        x = m.merge_norm(m.merge(x)) if after else m.merge(m.merge_norm(x))
        x = x.repeat(1, 2, 1)
        for each in m.two:
            x = each(x)
        return m.out(m.final(x).mean(1))

    return Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), patch_norm=norm(), one=repeat(2, make),
        merge=nn.Linear(2 * D, D, bias=False), merge_norm=norm(D if after else 2 * D),
        two=repeat(2, make), final=norm(), out=linear(),
    )  # fmt: skip


@structure
def swin_v1() -> Structure:
    return Structure(
        model=swin(False), inputs=image(), shortcut="patch_norm merge_norm", head="final",
        inner="one.*.n? two.*.n?",
    )  # fmt: skip


@structure
def swin_v2() -> Structure:
    return Structure(
        model=swin(True), inputs=image(), shortcut="patch_norm merge_norm", head="final",
        last="one.*.n? two.*.n?",
    )  # fmt: skip


@structure
def mvit() -> Structure:
    """Pooled queries are added to what attention returns: a sum inside the branch."""

    def layer(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        q, k, v = m.q_norm(pool(m.q(h))), m.k_norm(pool(m.k(h))), m.v_norm(pool(m.v(h)))
        x = pool(x) + m.out((q @ k.mT).softmax(-1) @ v + q)
        # Where the width changes, the skip is made of the normalised signal.
        h = m.n2(x)
        return (m.widen(h) if m.wider else x) + m.down(F.gelu(m.up(h)))

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2)

    def make(wider: bool) -> Net:
        net = Net(
            layer, n1=norm(), n2=norm(), q_norm=norm(), k_norm=norm(), v_norm=norm(), q=linear(),
            k=linear(), v=linear(), out=linear(), up=linear(D, 16), down=linear(16, D),
            widen=linear() if wider else None,
        )  # fmt: skip
        net.wider = wider
        return net

    def forward(m: Net, x: Tensor) -> Tensor:
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x).mean(1))

    blocks = nn.ModuleList([make(False), make(True), make(False)])
    model = Net(forward, blocks=blocks, final=norm(), out=linear())
    return Structure(
        model=model, inputs=signal(), shortcut="blocks.1.n2", head="final",
        inner="blocks.*.n1 blocks.*.?_norm blocks.0.n2 blocks.2.n2",
    )  # fmt: skip
