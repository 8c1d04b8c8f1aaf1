"""Networks for diffusion: conditioning, modulation, long skips, autoencoders."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    image,
    linear,
    mlp,
    norm,
    repeat,
    signal,
)
from tests.support.zoo.structure import Structure, structure


def group(size: int = D) -> nn.GroupNorm:
    return nn.GroupNorm(2, size)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


def plain(x: Tensor) -> Tensor:
    return F.layer_norm(x, (D,))


@structure
def dit_adaln_zero() -> Structure:
    """Norms without a gain of their own; what is left are the norms on queries and keys."""

    def layer(m: Net, x: Tensor, c: Tensor) -> Tensor:
        s1, a1, g1, s2, a2, g2 = m.modulation(F.silu(c)).chunk(6, -1)
        x = x + g1[:, None] * m.attention(modulate(plain(x), s1, a1))
        return x + g2[:, None] * m.mlp(modulate(plain(x), s2, a2))

    def make() -> Net:
        net = Net(layer, modulation=linear(D, 6 * D), attention=Attention(D, True), mlp=mlp())
        nn.init.zeros_(net.modulation.weight)
        nn.init.zeros_(net.modulation.bias)
        return net

    def forward(m: Net, x: Tensor, t: Tensor) -> Tensor:
        c = m.time(t)
        x = m.patch(x).flatten(2).transpose(1, 2)
        for each in m.blocks:
            x = each(x, c)
        shift, scale = m.last_modulation(F.silu(c)).chunk(2, -1)
        return m.out(modulate(plain(x), shift, scale))

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), time=mlp(), blocks=repeat(2, make),
        last_modulation=linear(D, 2 * D), out=linear(D, 12),
    )  # fmt: skip
    return Structure(model=model, inputs=(image(), signal(1, D)), inner="blocks.*.attention.?_norm")


@structure
def dit_with_norm_gains() -> Structure:
    """The same with gains in the norms, modulated before they meet a weight."""

    def layer(m: Net, x: Tensor, c: Tensor) -> Tensor:
        s1, a1, g1 = m.modulation(F.silu(c)).chunk(3, -1)
        return x + g1[:, None] * m.mlp(modulate(m.n(x), s1, a1))

    def forward(m: Net, x: Tensor, t: Tensor) -> Tensor:
        c = m.time(t)
        for each in m.blocks:
            x = each(x, c)
        shift, scale = m.last_modulation(F.silu(c)).chunk(2, -1)
        return m.out(modulate(m.final(x), shift, scale))

    make = lambda: Net(layer, n=norm(), modulation=linear(D, 3 * D), mlp=mlp())
    model = Net(
        forward, time=mlp(), blocks=repeat(2, make), last_modulation=linear(D, 2 * D),
        final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=(signal(), signal(2, D)), inner="blocks.*.n", head="final")


@structure
def mmdit() -> Structure:
    """Two streams with weights of their own meet in one attention; the last text part is cut."""

    def layer(m: Net, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hx, hy = m.n1x(x), m.n1y(y)
        q = torch.cat([m.qn_x(m.qx(hx)), m.qn_y(m.qy(hy))], 1)
        k = torch.cat([m.kn_x(m.kx(hx)), m.kn_y(m.ky(hy))], 1)
        v = torch.cat([m.vx(hx), m.vy(hy)], 1)
        mixed = (q @ k.mT).softmax(-1) @ v
        mixed_x, mixed_y = mixed.split([x.shape[1], y.shape[1]], 1)
        x = x + m.out_x(mixed_x)
        x = x + m.mlp_x(m.n2x(x))
        if m.cut:
            return x, y
        y = y + m.out_y(mixed_y)
        return x, y + m.mlp_y(m.n2y(y))

    def make(cut: bool) -> Net:
        parts: dict[str, nn.Module] = {}
        for s in "xy":
            parts |= {f"{p}{s}": linear() for p in "qkv"}
            parts |= {f"{p}_{s}": nn.RMSNorm(D) for p in ("qn", "kn")}
            parts |= {f"n1{s}": norm()}
            if not (cut and s == "y"):
                parts |= {f"n2{s}": norm(), f"out_{s}": linear(), f"mlp_{s}": mlp()}
        net = Net(layer, **parts)
        net.cut = cut
        return net

    def forward(m: Net, x: Tensor, y: Tensor) -> Tensor:
        y = m.enter_y(y)
        for each in m.blocks:
            x, y = each(x, y)
        return m.out(m.final(x))

    model = Net(
        forward, enter_y=linear(), blocks=nn.ModuleList([make(False), make(True)]), final=norm(),
        out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=(signal(), signal(2, 4, D)), inner="blocks.*.n?? blocks.*.?n_?",
        silent="blocks.1.qn_y",
        head="final",
    )  # fmt: skip


@structure
def uvit() -> Structure:
    """Long skips by concatenation and a linear layer; time and class are tokens."""

    def layer(m: Net, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = m.join(torch.cat([x, skip], -1))
        x = x + m.attention(m.n1(x))
        return x + m.mlp(m.n2(x))

    def make(long: bool) -> Net:
        join = {"join": linear(2 * D, D)} if long else {}
        return Net(layer, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp(), **join)

    def forward(m: Net, x: Tensor, t: Tensor) -> Tensor:
        x = torch.cat([m.time(t)[:, None], m.patch(x).flatten(2).transpose(1, 2)], 1) + m.positions
        kept = []
        for each in m.down:
            x = each(x)
            kept.append(x)
        x = m.middle(x)
        for each in m.up:
            x = each(x, kept.pop())
        return m.out(m.final(x)[:, 1:])

    model = Net(
        forward, patch=nn.Conv2d(3, D, 2, 2), time=mlp(), out=linear(), final=norm(),
        positions=nn.Parameter(torch.randn(1, 17, D)), middle=make(False),
        down=repeat(2, lambda: make(False)), up=repeat(2, lambda: make(True)),
    )  # fmt: skip
    return Structure(
        model=model, inputs=(image(), signal(1, D)), inner="down.*.n? middle.n? up.*.n?",
        head="final",
    )  # fmt: skip


@structure
def pixart() -> Structure:
    """A table of modulations per block, added to one that all blocks share; cross-attention."""

    def layer(m: Net, x: Tensor, text: Tensor, c: Tensor) -> Tensor:
        s1, a1, g1, s2, a2, g2 = (m.scale_shift_table[None] + c.unflatten(-1, (6, D))).unbind(1)
        x = x + g1[:, None] * m.attention(modulate(plain(x), s1, a1))
        x = x + m.cross_attention(x, text)
        return x + g2[:, None] * m.mlp(modulate(plain(x), s2, a2))

    def forward(m: Net, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        c = m.shared(F.silu(m.time(t)))
        text = m.caption_norm(m.caption(text))
        for each in m.blocks:
            x = each(x, text, c)
        return m.out(plain(x))

    make = lambda: Net(
        layer, attention=Attention(D, True), cross_attention=Attention(), mlp=mlp(),
        scale_shift_table=nn.Parameter(torch.randn(6, D)),
    )  # fmt: skip
    model = Net(
        forward, time=mlp(), shared=linear(D, 6 * D), caption=mlp(), caption_norm=nn.RMSNorm(D),
        blocks=repeat(2, make), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=(signal(), signal(2, D), signal(2, 4, D)),
        inner="blocks.*.attention.?_norm caption_norm", other="blocks.*.scale_shift_table",
    )  # fmt: skip
