"""Normalisation in other forms: written by hand, folded, bounded, or of the weights."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import D, Net, conv, image, linear, mlp, repeat, signal
from tests.support.zoo.structure import Structure, structure


def ones(*shape: int) -> nn.Parameter:
    return nn.Parameter(1 + 0.1 * torch.rand(*(shape or (D,))))


def named(name: str, forward: Callable[..., Tensor], **members: Callable[[], object]) -> nn.Module:
    """A normaliser of a class of this name."""
    kind = type(name, (Net,), {})
    return kind(forward, **{key: make() for key, make in members.items()})


def around(make: Callable[[], nn.Module], example: Tensor | None = None, **truth: str) -> Structure:
    """Two pre-norm blocks and a final norm, whose norms are all made by ``make``."""

    def block(m: Net, x: Tensor) -> Tensor:
        return x + m.body(m.n(x))

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.enter(x)
        for each in m.blocks:
            x = each(x)
        return m.out(m.final(x))

    images = example is not None and example.dim() == 4
    body = (lambda: nn.Sequential(conv(), nn.GELU(), conv())) if images else mlp
    model = Net(
        forward, enter=conv(3) if images else linear(), out=conv() if images else linear(),
        blocks=repeat(2, lambda: Net(block, n=make(), body=body())), final=make(),
    )  # fmt: skip
    inputs = signal() if example is None else example
    if not truth:
        truth = {"inner": "blocks.*.n.g", "head": "final.g"}
    return Structure(model=model, inputs=inputs, **truth)


@structure
def hand_written_layer_norm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return m.g * centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() + m.b

    return around(lambda: named("LN", forward, g=ones, b=ones), inner="blocks.*.n.g",
                  head="final.g")  # fmt: skip


@structure
def hand_written_annotated_layer_norm() -> Structure:
    """The Annotated Transformer's: the deviation, not the root of a variance."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.g * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + m.b

    return around(lambda: named("LN", forward, g=ones, b=ones), inner="blocks.*.n.g",
                  head="final.g")  # fmt: skip


@structure
def hand_written_rms_norm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.g * (x.float() * torch.rsqrt(x.float().square().mean(-1, True) + 1e-6)).type_as(x)

    return around(lambda: named("RMS", forward, g=ones))


@structure
def scale_norm() -> Structure:
    """ScaleNorm: one number and the length of the vector."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-5) * m.g

    return around(lambda: named("ScaleNorm", forward, g=lambda: ones(1)))


@structure
def unit_length_norm() -> Structure:
    """x-transformers' RMS norm: unit length, times the root of the width, times ``1 + g``."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * D**0.5 * (m.g + 1)

    return around(lambda: named("RMSNorm", forward, g=ones))


@structure
def partial_rms_norm() -> Structure:
    """pRMSNorm: the statistic is of the first half of the channels."""

    def forward(m: Net, x: Tensor) -> Tensor:
        part = x[..., : D // 2]
        return m.g * (x / (part.norm(dim=-1, keepdim=True) / (D // 2) ** 0.5 + 1e-8))

    return around(lambda: named("PartialRMS", forward, g=ones))


@structure
def channel_norm() -> Structure:
    """vit-pytorch's layer norm of images: over the channels, with weights of (1, D, 1, 1)."""

    def forward(m: Net, x: Tensor) -> Tensor:
        variance = torch.var(x, dim=1, unbiased=False, keepdim=True)
        return (x - torch.mean(x, dim=1, keepdim=True)) / (variance + 1e-5).sqrt() * m.g + m.b

    shape = lambda: ones(1, D, 1, 1)
    return around(
        lambda: named("ChannelNorm", forward, g=shape, b=shape), image(), inner="blocks.*.n.g",
        head="final.g",
    )  # fmt: skip


def batch_norm(forward: Callable[[Net, Tensor], Tensor], **truth: str) -> Structure:
    def make() -> nn.Module:
        net = named("BatchNormByHand", forward, g=ones, b=ones)
        net.register_buffer("mean", torch.randn(D))
        net.register_buffer("variance", torch.rand(D) + 0.5)
        return net

    return around(make, inner="blocks.*.n.g", head="final.g")


@structure
def hand_written_batch_norm() -> Structure:
    return batch_norm(lambda m, x: (x - m.mean) / torch.sqrt(m.variance + 1e-5) * m.g + m.b)


@structure
def frozen_batch_norm() -> Structure:
    """Folded, as detection models write it: one factor and one shift of constants and gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        factor = m.g * (m.variance + 1e-5).rsqrt()
        return x * factor + (m.b - m.mean * factor)

    return batch_norm(forward)


@structure
def doubled_gain() -> Structure:
    """Divided by two, offset, masked: still the same gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return F.rms_norm(x, (D,)) * ((m.g + 1) / 2)

    return around(lambda: named("HalfNorm", forward, g=ones))


@structure
def masked_gain() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        return F.layer_norm(x, (D,), m.g * m.mask, m.b)

    def make() -> nn.Module:
        net = named("PrunedNorm", forward, g=ones, b=ones)
        net.register_buffer("mask", (torch.arange(D) % 3 > 0).float())
        return net

    return around(make, inner="blocks.*.n.g", head="final.g")
