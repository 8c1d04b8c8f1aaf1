"""Weights that are no matrix product at first sight: filters on a spectrum, experts by index."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.structures import parameter
from tests.support.zoo.language import stack
from tests.support.zoo.parts import D, Net, linear, norm, tokens
from tests.support.zoo.structure import Structure, structure

LENGTH = 9


def spectral(product: object, **members: object) -> Structure:
    """Pre-norm blocks that mix tokens by a product on their spectrum."""

    def forward(m: Net, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(m.n(x), dim=1)
        return x + torch.fft.irfft(m.product(m, spectrum), n=LENGTH, dim=1)

    def make() -> Net:
        fresh = {k: v() if callable(v) else v for k, v in members.items()}
        net = Net(forward, n=norm(), **fresh)
        net.product = product
        return net

    return Structure(model=stack(make), inputs=tokens(LENGTH), inner="blocks.*.n", head="final")


def frequencies(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.view_as_complex(torch.randn(*shape, 2)))


@structure
def global_filter() -> Structure:
    """GFNet: a filter for each channel."""
    return spectral(
        lambda m, s: torch.view_as_complex(m.filter) * s, filter=lambda: parameter(5, D, 2)
    )


@structure
def real_filter() -> Structure:
    return spectral(lambda m, s: s * m.filter, filter=lambda: parameter(5, D))


@structure
def fourier_operator() -> Structure:
    """FNO: the lowest frequencies of all channels are mixed, the others are cut off."""

    def product(m: Net, s: Tensor) -> Tensor:
        out = torch.zeros_like(s)
        out[:, :3] = torch.einsum("bfi,fio->bfo", s[:, :3], m.filter)
        return out

    return spectral(product, filter=lambda: frequencies(3, D, D))


@structure
def masked_filter() -> Structure:
    """The spectrum is scaled and masked before its filter."""

    def product(m: Net, s: Tensor) -> Tensor:
        keep = (torch.arange(5) < 4)[:, None]
        return (s * 0.5).masked_fill(~keep, 0.0) * m.filter

    return spectral(product, filter=lambda: frequencies(5, D))


@structure
def spectral_gain() -> Structure:
    """One number for each channel scales, on a spectrum as elsewhere, and is no weight."""
    made = spectral(lambda m, s: s * m.scale, scale=lambda: parameter(D))
    return Structure(model=made.model, inputs=made.inputs, last="blocks.*.n", head="final",
                     unsure="blocks.*.scale")  # fmt: skip


def experts(pick: object) -> Structure:
    """Pre-norm blocks in which each token picks the matrices of its expert."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.n(x)
        best = m.router(x).argmax(-1).flatten()
        hidden = torch.bmm(y.flatten(0, 1)[:, None], m.pick(m.up, best)).relu()
        return x + torch.bmm(hidden, m.pick(m.down, best)).view_as(x)

    def make() -> Net:
        net = Net(forward, n=norm(), router=linear(D, 3), up=parameter(3, D, D),
                  down=parameter(3, D, D))  # fmt: skip
        net.pick = pick
        return net

    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n", head="final")


@structure
def experts_by_index() -> Structure:
    return experts(lambda w, best: w[best])


@structure
def experts_by_index_select() -> Structure:
    return experts(lambda w, best: w.index_select(0, best))


@structure
def experts_by_gather() -> Structure:
    return experts(lambda w, best: w.gather(0, best[:, None, None].expand(-1, D, D)))


@structure
def experts_by_computed_index() -> Structure:
    """The index is computed further, and the stack holds its matrices turned."""
    return experts(lambda w, best: w[(best + 1) % 3].mT.contiguous())
