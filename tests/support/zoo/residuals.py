"""Residual additions in other forms: gates, scales, several streams, sparse and reversible ones."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.zoo.gates import gated, number, vector
from tests.support.zoo.language import lm, stack
from tests.support.zoo.parts import D, Net, linear, mlp, norm, repeat, tokens
from tests.support.zoo.structure import Structure, structure


@structure
def rezero() -> Structure:
    model = gated(lambda m, x, y: x + m.alpha * y, alpha=lambda: number(0.0))
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", last="blocks.*.alpha", head="final"
    )


@structure
def skip_init() -> Structure:
    """SkipInit: no norm at all, a learned number on each branch."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return x + m.mlp(x) * m.alpha

    make = lambda: Net(forward, mlp=mlp(), alpha=number(0.1))
    return Structure(model=stack(make, False), inputs=tokens(), last="blocks.*.alpha")


@structure
def layer_scale() -> Structure:
    model = gated(lambda m, x, y: x + m.scale * y, scale=vector)
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", last="blocks.*.scale", head="final"
    )


@structure
def layer_scale_then_mask() -> Structure:
    """Padding masks and drop path come after the scale."""

    def join(m: Net, x: Tensor, y: Tensor) -> Tensor:
        keep = (torch.arange(x.shape[1]) < 7).to(x.dtype)[:, None]
        return x + (m.scale * y) * keep * 1.25

    return Structure(
        model=gated(join, scale=vector), inputs=tokens(), inner="blocks.*.n",
        last="blocks.*.scale", head="final",
    )  # fmt: skip


@structure
def layer_scale_then_masked_fill() -> Structure:
    def join(m: Net, x: Tensor, y: Tensor) -> Tensor:
        return x + (m.scale * y).masked_fill(torch.arange(x.shape[1])[:, None] > 6, 0.0)

    return Structure(
        model=gated(join, scale=vector), inputs=tokens(), inner="blocks.*.n",
        last="blocks.*.scale", head="final",
    )  # fmt: skip


@structure
def layer_scale_then_gate() -> Structure:
    """The scaled branch is multiplied with a gate made of the signal."""
    model = gated(
        lambda m, x, y: x + (m.scale * y) * m.gate(x).sigmoid(), scale=vector,
        gate=lambda: linear(D, 1),
    )  # fmt: skip
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", last="blocks.*.scale", head="final"
    )


@structure
def hyper_connections() -> Structure:
    """Several residual streams, mixed by a learned and a computed matrix."""

    def forward(m: Net, streams: Tensor) -> Tensor:
        computed = torch.tanh(m.n_mix(streams) @ m.dynamic)
        mixed = (computed + m.static).mT @ streams
        y = m.mlp(m.n(mixed[..., 0, :]))
        return mixed[..., 1:, :] + m.beta[:, None] * y[..., None, :]

    def run(m: Net, ids: Tensor) -> Tensor:
        streams = m.embed(ids)[..., None, :].expand(-1, -1, 3, -1)
        for block in m.blocks:
            streams = block(streams)
        return m.out(m.final(streams.sum(-2)))

    make = lambda: Net(
        forward, n_mix=norm(), n=norm(), mlp=mlp(), beta=nn.Parameter(torch.ones(3)),
        dynamic=nn.Parameter(0.1 * torch.randn(D, 4)), static=nn.Parameter(torch.randn(3, 4)),
    )  # fmt: skip
    model = Net(run, embed=nn.Embedding(11, D), blocks=repeat(2, make), final=norm(), out=linear())
    # `n_mix` makes the matrix that mixes the streams, through the weight `dynamic`, and what is
    # mixed is the next skip. `beta` says how much of the branch each stream gets: a layer scale.
    return Structure(
        model=model, inputs=tokens(), inner="blocks.*.n", shortcut="blocks.*.n_mix",
        last="blocks.*.beta", head="final", other="blocks.*.static",
    )  # fmt: skip


def dense(join: Callable[[Net, list[Tensor], int], Tensor]) -> Net:
    def forward(m: Net, ids: Tensor) -> Tensor:
        states = [m.embed(ids)]
        for i, (f, n) in enumerate(zip(m.f, m.n, strict=True)):
            x = join(m, states, i)
            states.append(x + f(n(x)))
        return m.out(m.final(states[-1]))

    mixes = nn.ParameterList(nn.Parameter(torch.rand(i + 1)) for i in range(3))
    return Net(
        forward, embed=nn.Embedding(11, D), f=repeat(3, mlp), n=repeat(3, norm), mixes=mixes,
        final=norm(), out=linear(),
    )  # fmt: skip


@structure
def denseformer() -> Structure:
    """Each layer reads a learned sum over all earlier outputs."""
    model = dense(lambda m, xs, i: sum(w * x for w, x in zip(m.mixes[i], xs, strict=True)))
    return Structure(model=model, inputs=tokens(), inner="n.*", head="final")


@structure
def denseformer_stacked() -> Structure:
    """The same sum, as a product with the stack of the earlier outputs."""
    model = dense(lambda m, xs, i: (torch.stack(xs) * m.mixes[i][:, None, None, None]).sum(0))
    return Structure(model=model, inputs=tokens(), inner="n.*", head="final")


@structure
def attention_over_depth() -> Structure:
    """A softmax over the earlier outputs: contractions, and no residual addition in the model."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        states = [m.embed(ids)]
        for f, n, query in zip(m.f, m.n, m.queries, strict=True):
            stacked = torch.stack(states, -2)
            share = (stacked @ query).softmax(-1)
            states.append(f(n((share[..., None, :] @ stacked)[..., 0, :])))
        return m.out(m.final(states[-1]))

    queries = nn.ParameterList(nn.Parameter(torch.randn(D)) for _ in range(3))
    model = Net(
        forward, embed=nn.Embedding(11, D), f=repeat(3, mlp), n=repeat(3, norm), queries=queries,
        final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=tokens(), inner="n.*", head="final")


@structure
def reversible() -> Structure:
    """RevNet, Reformer: two halves of the stream take turns."""

    def forward(m: Net, x: Tensor) -> Tensor:
        one, two = x.chunk(2, -1)
        one = one + m.f(m.n1(two))
        two = two + m.g(m.n2(one))
        return torch.cat([one, two], -1)

    make = lambda: Net(forward, n1=norm(4), n2=norm(4), f=linear(4, 4), g=linear(4, 4))
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


@structure
def sums_of_lists() -> Structure:
    """Two streams are added to in one call, out of place and in place."""

    def forward(m: Net, x: Tensor) -> Tensor:
        one, two = torch._foreach_add(x.chunk(2, -1), [m.f(m.n1(x)), m.g(m.n2(x))])
        torch._foreach_add_([one, two], [m.g(m.n3(x)), m.f(m.n4(x))], alpha=0.5)
        return torch.cat([one, two], -1)

    make = lambda: Net(
        forward, f=linear(D, 4), g=linear(D, 4), n1=norm(), n2=norm(), n3=norm(), n4=norm()
    )
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


@structure
def reversible_in_another_layout() -> Structure:
    """The halves are kept in one tensor that is sorted, copied and turned around in between."""

    def forward(m: Net, x: Tensor) -> Tensor:
        turned = x[:, torch.arange(x.shape[1]).flip(0)].permute(2, 0, 1).clone()
        one, two = turned.view(2, 4, *turned.shape[1:]).unbind(0)
        one, two = one.movedim(0, -1), two.movedim(0, -1)
        one = one + m.f(m.n1(two))
        two = two + m.g(m.n2(one))
        return torch.cat([one, two], -1)[:, :5].repeat(1, 2, 1)[:, : x.shape[1]]

    make = lambda: Net(forward, n1=norm(4), n2=norm(4), f=linear(4, 4), g=linear(4, 4))
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


@structure
def chunked() -> Structure:
    """A residual on one part of the channels alone; the other part passes."""

    def forward(m: Net, x: Tensor) -> Tensor:
        one, two = x[..., :4], x[..., 4:]
        return torch.cat([two, one + m.f(m.n(two))], -1)

    make = lambda: Net(forward, n=norm(4), f=linear(4, 4))
    return Structure(model=lm([make() for _ in range(3)], norm()), inputs=tokens(), head="final",
                     inner="blocks.*.n")  # fmt: skip


@structure
def weightless_branch() -> Structure:
    """``x + g * pool(x)`` is no residual addition, so ``g`` is no gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        pooled = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        x = x + m.g * pooled
        return x + m.mlp(m.n(x))

    make = lambda: Net(forward, n=norm(), mlp=mlp(), g=vector())
    return Structure(
        model=stack(make), inputs=tokens(), inner="blocks.*.n", other="blocks.*.g", head="final"
    )
