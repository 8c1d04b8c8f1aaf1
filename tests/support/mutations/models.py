"""Models for what almost no random network exercises: roles, streams in one tensor, written memory.

Each function returns a model, and for some of its parameters the role, or for gains the short form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.structures import (
    HEAD,
    HEAD_RMS,
    INNER,
    INNER_RMS,
    SHORTCUT,
    D,
    Net,
    block,
    linear,
    mlp,
    norm,
    parameter,
)  # fmt: skip

L = 5
Example = tuple[nn.Module, dict[str, str]]


def merged_low_rank_matrices() -> Example:
    """Written as a sum, and as one product with a summand."""

    def branch(m: Net, x: Tensor) -> Tensor:
        return x @ (m.w + m.b @ m.a) + x @ torch.addmm(m.w2, m.b, m.a)

    shapes = {"w": (D, D), "w2": (D, D), "b": (D, 2), "a": (2, D)}
    made = block(branch, **{name: parameter(*shape) for name, shape in shapes.items()})
    return made, dict.fromkeys(shapes, "weight")


def softmax_of_a_matrix() -> Example:
    made = block(lambda m, x: x @ m.w.softmax(-1), w=parameter(D, D))
    return made, {"w": "weight"}


def kernel_that_is_generated() -> Example:
    """Rates, spread over time and bent, and the coefficients that multiply what they give."""

    def branch(m: Net, x: Tensor) -> Tensor:
        kernel = torch.einsum("dn,dnl->dl", m.c, torch.exp(-m.rate[..., None] * torch.arange(L)))
        spectrum = torch.fft.rfft(kernel, n=2 * L) * torch.fft.rfft(x.mT, n=2 * L)
        return torch.fft.irfft(spectrum, n=2 * L)[..., :L].mT

    made = block(branch, c=parameter(D, 4), rate=parameter(D, 4))
    return made, {"c": "weight", "rate": "other"}


def product_on_a_spectrum() -> Example:
    def branch(m: Net, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x, dim=1)
        return torch.fft.irfft(spectrum * torch.view_as_complex(m.w), n=L, dim=1)

    return block(branch, w=parameter(L // 2 + 1, D, 2)), {"w": "weight"}


def product_of_turned_signals() -> Example:
    """A complex factor on what is no spectrum."""

    def branch(m: Net, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.polar(m.one, m.angle)).flatten(2)

    made = block(branch, one=parameter(L, D // 2), angle=parameter(L, D // 2))
    return made, {"one": "other", "angle": "other"}


def network_on_positions() -> Example:
    """Weights and biases on what the pass makes of shapes, one layer of them written out."""

    def branch(m: Net, x: Tensor) -> Tensor:
        return x + (m.one(torch.arange(L)[:, None] / L).relu() @ m.two + m.b)

    wanted = {"one.weight": "weight", "one.bias": "bias", "two": "weight", "b": "bias"}
    return block(branch, one=linear(1, 4), two=parameter(4, D), b=parameter(D)), wanted


def mix_of_matrices() -> Example:
    """A weighted mean of matrices: the shares are no weight."""

    def branch(m: Net, x: Tensor) -> Tensor:
        return x @ torch.einsum("k,kij->ij", m.shares.softmax(0), m.stack)

    made = block(branch, shares=parameter(3), stack=parameter(3, D, D))
    return made, {"shares": "other", "stack": "weight"}


def queries_that_are_projected() -> Example:
    """Learned queries, with a norm that is written out after their projection."""

    def forward(m: Net, x: Tensor) -> Tensor:
        read = x
        for h in (m.q(m.query), m.own @ m.w + m.b):
            h = h * (h.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * m.gain
            read = (h @ m.k(m.pre(read)).mT).softmax(-1) @ read
        return m.out(m.last(read))

    made = Net(
        forward, q=linear(), k=linear(), query=parameter(3, D), own=parameter(3, D),
        w=parameter(D, D), b=parameter(D), gain=parameter(D), pre=norm(), last=norm(), out=linear(),
    )  # fmt: skip
    wanted = {"query": "other", "own": "other", "gain": HEAD_RMS, "q.weight": "weight"}
    return made, wanted | {"q.bias": "bias", "w": "weight", "b": "bias"}


def positions_on_the_stream() -> Example:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.body(m.embed(x) + m.table)

    body = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
    return Net(forward, embed=linear(), body=body, table=parameter(1, L, D)), {"table": "embedding"}


def table_of_modulations() -> Example:
    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.embed(x)
        return m.out(h + m.up(m.pre(h) * (m.shift(h) + m.table)))

    made = Net(
        forward, embed=linear(), shift=linear(), pre=norm(), up=linear(), out=linear(),
        table=parameter(L, D),
    )  # fmt: skip
    return made, {"table": "other", "pre": INNER}


def bounded_functions_that_are_no_norms() -> Example:
    """Of what no parameter multiplies, of what follows a gain, times a number, and unbounded."""

    def branch(m: Net, x: Tensor) -> Tensor:
        rms = x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * m.gain
        gated = (2 * m.up(x)).tanh() * m.plain + rms.tanh() * m.behind
        return gated + (m.a * m.up(x)).tanh() * m.number + (m.a * m.up(x)).sigmoid() * m.gate

    names = ("plain", "behind", "gate", "a")
    made = block(
        branch, up=linear(), gain=parameter(D), number=parameter(),
        **{name: parameter(D) for name in names},
    )  # fmt: skip
    return made, dict.fromkeys((*names, "number"), "other") | {"gain": INNER_RMS}


def vector_behind_a_gate() -> Example:
    """A norm times a gate times a vector, which is no gain."""

    def branch(m: Net, x: Tensor) -> Tensor:
        x = m.up(x)
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * m.gate(x).sigmoid() * m.vector

    made = block(branch, up=linear(), gate=linear(), vector=parameter(D))
    return made, {"vector": "other"}


def gains_that_are_made() -> Example:
    """(1 + g) / 2 and 1 - g."""

    def forward(m: Net, x: Tensor) -> Tensor:
        for gain in ((1 + m.halved) / 2, 1 - m.less_one):
            h = x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * gain
            x = x + m.up(h).relu()
        return m.out(x)

    made = Net(forward, up=linear(), out=linear(), halved=parameter(D), less_one=parameter(D))
    return made, {"halved": f"{INNER_RMS} +1", "less_one": f"{INNER_RMS} +-1"}


def streams_in_one_tensor() -> Example:
    """A norm of one stream scales nothing of the other, also in a copy."""

    def forward(m: Net, x: Tensor) -> Tensor:
        both = torch.cat((m.a(x), m.n(m.b(x))), -1).clone()
        return m.out(both[..., :D] + m.f(both[..., D:]))

    return Net(forward, n=norm(), a=linear(), b=linear(), f=mlp(), out=linear()), {"n": INNER}


def steps_of_two_streams() -> Example:
    """A slice along another dimension holds both."""

    def forward(m: Net, x: Tensor) -> Tensor:
        both = torch.cat((m.a(x), m.n(m.b(x))), -1)[:, :L]
        return m.out(both + m.f(both))

    both = {"f": linear(2 * D, 2 * D), "out": linear(2 * D)}
    return Net(forward, n=norm(), a=linear(), b=linear(), **both), {"n": SHORTCUT}


def mix_by_lerp() -> Example:
    made = Net(lambda m, x: m.out(torch.lerp(x, m.f(m.n(x)), 0.5)), f=mlp(), n=norm(), out=linear())
    return made, {"n": INNER}


def _written(m: Net, x: Tensor) -> Tensor:
    first, whole = m.a(x), m.whole(x)
    first[..., :4] = m.part(x)[..., :4]  # a part is written, the rest stays
    view = whole[..., :4]
    view.copy_(m.view(x)[..., :4])
    return first + nn.Parameter(whole, requires_grad=False)  # no operation makes it


def memory_that_is_written() -> Example:
    """A part of a tensor, a tensor by its view, and one that shares its memory."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = _written(m, m.embed(x))
        return m.out(m.last(h + m.f(h)))

    norms = {name: norm() for name in ("a", "part", "whole", "view", "last")}
    made = Net(forward, embed=linear(), f=mlp(), out=linear(), **norms)
    return made, dict.fromkeys(("a", "part", "whole", "view"), SHORTCUT) | {"last": HEAD}


EXAMPLES: tuple[Callable[[], Example], ...] = (
    merged_low_rank_matrices,
    softmax_of_a_matrix,
    kernel_that_is_generated,
    product_on_a_spectrum,
    product_of_turned_signals,
    network_on_positions,
    mix_of_matrices,
    queries_that_are_projected,
    positions_on_the_stream,
    table_of_modulations,
    bounded_functions_that_are_no_norms,
    vector_behind_a_gate,
    gains_that_are_made,
    streams_in_one_tensor,
    steps_of_two_streams,
    mix_by_lerp,
    memory_that_is_written,
)
