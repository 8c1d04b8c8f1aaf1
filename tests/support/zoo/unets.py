"""U-shaped networks of diffusion, and autoencoders."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.diffusion import group
from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    conv,
    image,
    linear,
    mlp,
    norm,
    repeat,
    signal,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


def resnet(m: Net, x: Tensor, t: Tensor | None = None) -> Tensor:
    h = m.c1(F.silu(m.n1(x)))
    if t is not None:
        h = h + m.time(F.silu(t))[:, :, None, None]
    h = m.c2(F.silu(m.n2(h)))
    return (x if m.skip is None else m.skip(x)) + h


def resnet_block(inputs: int = D, outputs: int = D, time: bool = True) -> Net:
    return Net(
        resnet, n1=group(inputs), n2=group(outputs), c1=conv(inputs, outputs, 3),
        c2=conv(outputs, outputs, 3), time=linear(D, outputs) if time else None,
        skip=conv(inputs, outputs) if inputs != outputs else None,
    )  # fmt: skip


def transformer() -> Net:
    """A norm, a projection, transformer blocks with cross-attention, a projection, a skip."""

    def layer(m: Net, x: Tensor, text: Tensor) -> Tensor:
        x = x + m.self_attention(m.n1(x))
        x = x + m.cross_attention(m.n2(x), text)
        return x + m.mlp(m.n3(x))

    def forward(m: Net, x: Tensor, text: Tensor) -> Tensor:
        h = m.enter(m.n(x)).flatten(2).transpose(1, 2)
        for each in m.blocks:
            h = each(h, text)
        return x + m.leave(h.transpose(1, 2).unflatten(2, x.shape[2:]))

    make = lambda: Net(
        layer, n1=norm(), n2=norm(), n3=norm(), self_attention=Attention(),
        cross_attention=Attention(), mlp=mlp(),
    )  # fmt: skip
    return Net(forward, n=group(), enter=conv(), leave=conv(), blocks=repeat(1, make))


@structure
def stable_diffusion_unet() -> Structure:
    def forward(m: Net, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        t = m.time(t)
        x = m.enter(x)
        kept = [x]
        x = m.attend1(m.down1(x, t), text)
        kept.append(x)
        x = m.shrink(x)
        x = m.middle2(m.attend2(m.middle1(x, t), text), t)
        x = F.interpolate(x, scale_factor=2.0)
        x = m.up1(torch.cat([x, kept.pop()], 1), t)
        x = m.up2(torch.cat([x, kept.pop()], 1), t)
        return m.out(F.silu(m.final(x)))

    model = Net(
        forward, time=mlp(), enter=conv(3, D, 3), down1=resnet_block(), attend1=transformer(),
        shrink=nn.Conv2d(D, D, 3, 2, 1), middle1=resnet_block(), attend2=transformer(),
        middle2=resnet_block(), up1=resnet_block(2 * D, D), up2=resnet_block(2 * D, D),
        final=group(), out=conv(D, 3, 3),
    )  # fmt: skip
    # Under the transformer's outer skip, its own norm feeds the skip of the blocks within.
    return Structure(
        model=model, inputs=(image(), signal(1, D), signal(1, 4, D)), head="final",
        inner="down1.n? middle?.n? up?.n? attend?.blocks.*.n?", shortcut="attend?.n",
    )  # fmt: skip


@structure
def unet_with_scale_and_shift() -> Structure:
    """ADM: the time scales and shifts what the second norm gives."""

    def forward(m: Net, x: Tensor, t: Tensor) -> Tensor:
        h = m.c1(F.silu(m.n1(x)))
        scale, shift = m.time(F.silu(t))[:, :, None, None].chunk(2, 1)
        return x + m.c2(F.silu(m.n2(h) * (1 + scale) + shift))

    def run(m: Net, x: Tensor, t: Tensor) -> Tensor:
        t = m.time(t)
        x = m.enter(x)
        for each in m.blocks:
            x = each(x, t)
        return m.out(F.silu(m.final(x)))

    make = lambda: Net(
        forward, n1=group(), n2=group(), c1=conv(D, D, 3), c2=conv(D, D, 3), time=linear(D, 2 * D)
    )
    model = Net(
        run, time=mlp(), enter=conv(3, D, 3), blocks=repeat(2, make), final=group(),
        out=conv(D, 3, 3),
    )  # fmt: skip
    return Structure(model=model, inputs=(image(), signal(1, D)), inner="blocks.*.n?", head="final")


@structure
def autoencoder() -> Structure:
    """An encoder and a decoder of residual blocks, each with attention in the middle."""

    def attend(m: Net, x: Tensor) -> Tensor:
        h = m.n(x).flatten(2).transpose(1, 2)
        return x + m.attention(h).transpose(1, 2).unflatten(2, x.shape[2:])

    def half(m: Net, x: Tensor) -> Tensor:
        x = m.b3(m.middle(m.b2(m.b1(m.enter(x)))))
        return m.out(F.silu(m.final(x)))

    def forward(m: Net, x: Tensor) -> Tensor:
        mean, log_variance = m.encoder(x).chunk(2, 1)
        noise = torch.linspace(-1, 1, 8)
        z = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * noise
        return m.decoder(z)

    def make(inputs: int, outputs: int) -> Net:
        return Net(
            half, enter=conv(inputs, D, 3), b1=resnet_block(time=False),
            b2=resnet_block(time=False), b3=resnet_block(time=False),
            middle=Net(attend, n=group(), attention=Attention()), final=group(),
            out=conv(D, outputs, 3),
        )  # fmt: skip

    model = Net(forward, encoder=make(3, 8), decoder=make(4, 3))
    # The encoder's last norm makes the code, which is the decoder's first skip.
    return Structure(
        model=model, inputs=image(), shortcut="encoder.final", head="decoder.final",
        inner="*coder.b?.n? *coder.middle.n",
    )  # fmt: skip
