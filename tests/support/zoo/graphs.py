"""Networks on graphs and pairs, and detection transformers."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    bn,
    conv,
    image,
    linear,
    mlp,
    norm,
    repeat,
    signal,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure

EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])


def gather(values: Tensor, to: Tensor, count: int) -> Tensor:
    return torch.zeros(count, values.shape[-1]).index_add(0, to, values)


@structure
def graph_isomorphism() -> Structure:
    """GIN: batch norms inside the update and behind it; each layer is added to its input."""

    def forward(m: Net, x: Tensor) -> Tensor:
        source, target = EDGES
        x = m.embed(x)
        for each in m.layers:
            total = (1 + each.eps) * x + gather(x[source], target, len(x))
            h = each.down(each.n1(each.up(total)).relu())
            x = x + each.n2(h).relu()
        return m.out(m.final(x.mean(0)))

    layer = lambda: Net(
        forward, up=linear(), down=linear(), n1=nn.BatchNorm1d(D), n2=nn.BatchNorm1d(D),
        eps=nn.Parameter(torch.zeros(1)),
    )  # fmt: skip
    model = Net(forward, embed=linear(), layers=repeat(2, layer), final=norm(), out=linear())
    return Structure(
        model=model, inputs=signal(6, D), inner="layers.*.n1", last="layers.*.n2", head="final",
        other="layers.*.eps",
    )  # fmt: skip


@structure
def graph_attention() -> Structure:
    """GAT with residuals: messages are weighed by a softmax over edges and scattered."""

    def forward(m: Net, x: Tensor) -> Tensor:
        source, target = EDGES
        x = m.embed(x)
        for each in m.layers:
            h = each.value(each.n(x))
            scores = F.leaky_relu(each.score(torch.cat([h[source], h[target]], -1)))
            share = (scores - scores.max()).exp()
            total = gather(share, target, len(x))[target] + 1e-6
            x = x + F.elu(gather(h[source] * (share / total), target, len(x)))
        return m.out(m.final(x))

    layer = lambda: Net(forward, n=norm(), value=linear(), score=linear(2 * D, 1))
    model = Net(forward, embed=linear(), layers=repeat(2, layer), final=norm(), out=linear())
    return Structure(model=model, inputs=signal(6, D), inner="layers.*.n", head="final")


@structure
def message_passing_by_scatter() -> Structure:
    """Messages are scattered straight onto the nodes: that is the residual addition."""

    def forward(m: Net, x: Tensor) -> Tensor:
        source, target = EDGES
        x = m.embed(x)
        for each in m.layers:
            message = each.n2(each.mlp(each.n1(x)[source]))
            x = x.index_add(0, target, message)
        return m.out(m.final(x))

    layer = lambda: Net(forward, n1=norm(), n2=norm(), mlp=mlp())
    model = Net(forward, embed=linear(), layers=repeat(2, layer), final=norm(), out=linear())
    return Structure(
        model=model, inputs=signal(6, D), inner="layers.*.n1", last="layers.*.n2", head="final"
    )


@structure
def pair_updates() -> Structure:
    """AlphaFold's block: sequences and pairs inform each other; a triangle product of pairs."""

    def forward(m: Net, msa: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        for b in m.blocks:
            h = b.n_row(msa)
            q, k, v = b.q(h), b.k(h), b.v(h)
            scores = q @ k.mT + b.bias(b.n_bias(pair))[..., 0][:, None]
            msa = msa + b.gate(h).sigmoid() * b.out(scores.softmax(-1) @ v)
            msa = msa + b.mlp(b.n_transition(msa))
            h = b.n_outer(msa)
            outer = torch.einsum("bsic,bsjd->bijcd", b.left(h), b.right(h)).flatten(-2)
            pair = pair + b.mix(outer) / msa.shape[1]
            h = b.n_triangle(pair)
            one, two = b.t1(h) * b.g1(h).sigmoid(), b.t2(h) * b.g2(h).sigmoid()
            product = torch.einsum("bikc,bjkc->bijc", one, two)
            pair = pair + b.g3(h).sigmoid() * b.t3(b.n_product(product))
        return m.out(msa[:, 0]), m.out_pair(m.final(pair))

    plain = {name: linear for name in ("q", "k", "v", "gate", "out", "t1", "t2", "t3", "g1", "g2",
                                       "g3")}  # fmt: skip
    norms = ("row", "bias", "transition", "outer", "triangle", "product")

    def make() -> Net:
        return Net(
            forward, bias=linear(D, 1), left=linear(D, 3), right=linear(D, 3), mix=linear(9, D),
            mlp=mlp(), **{f"n_{name}": norm() for name in norms},
            **{name: part() for name, part in plain.items()},
        )  # fmt: skip

    model = Net(forward, blocks=repeat(2, make), final=norm(), out=linear(), out_pair=linear())
    return Structure(
        model=model, inputs=(signal(1, 3, 5, D), signal(1, 5, 5, D)), inner="blocks.*.n_*",
        head="final",
    )  # fmt: skip


def detector(decode: object, layer: object, **more: nn.Module) -> Net:
    """A convolutional front, an encoder layer with positions on its queries, a decoder."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.front(x).flatten(2).transpose(1, 2)
        h = m.n1(x + m.attention(x + m.positions, x))
        memory = m.n2(h + m.mlp(h))
        return decode(m, memory)

    return Net(
        forward, front=nn.Sequential(conv(3, D, 3, stride=2), bn(), nn.ReLU()), n1=norm(),
        n2=norm(), attention=Attention(), mlp=mlp(), positions=nn.Parameter(torch.randn(1, 16, D)),
        layers=repeat(2, layer), queries=nn.Embedding(3, D), out=linear(), **more,
    )  # fmt: skip


ENCODER = "front.1 n1"
"""Post-norm: on the skips. What the encoder's last norm feeds is cross-attention alone."""


@structure
def detr_post_norm() -> Structure:
    """Learned queries are added to targets of zeros; one final norm for every layer's output."""

    def decode(m: Net, memory: Tensor) -> list[Tensor]:
        query = m.queries.weight.expand(len(memory), -1, -1)
        x, outputs = torch.zeros_like(query), []
        for each in m.layers:
            x = each.n1(x + each.self_attention(x + query))
            x = each.n2(x + each.cross_attention(x + query, memory))
            x = each.n3(x + each.mlp(x))
            outputs.append(m.out(m.final(x)))
        return outputs

    layer = lambda: Net(
        decode, n1=norm(), n2=norm(), n3=norm(), self_attention=Attention(), mlp=mlp(),
        cross_attention=Attention(),
    )  # fmt: skip
    model = detector(decode, layer, final=norm())
    # The first layer's n1 makes the skip of its cross-attention.
    return Structure(
        model=model, inputs=image(), head="layers.1.n3 final", inner="n2",
        shortcut=f"{ENCODER} layers.?.n1 layers.?.n2 layers.0.n3",
    )  # fmt: skip


@structure
def detr_pre_norm() -> Structure:
    """The first norm sees zeros alone, so its gain scales nothing: unused."""

    def decode(m: Net, memory: Tensor) -> Tensor:
        query = m.queries.weight.expand(len(memory), -1, -1)
        x = torch.zeros_like(query)
        for each in m.layers:
            h = each.n1(x)
            x = x + each.self_attention(h + query, h)
            x = x + each.cross_attention(each.n2(x) + query, memory)
            x = x + each.mlp(each.n3(x))
        return m.out(m.final(x))

    layer = lambda: Net(
        decode, n1=norm(), n2=norm(), n3=norm(), self_attention=Attention(), mlp=mlp(),
        cross_attention=Attention(),
    )  # fmt: skip
    model = detector(decode, layer, final=norm())
    return Structure(
        model=model, inputs=image(), head="final", shortcut=ENCODER, unused="layers.0.n1",
        inner="n2 layers.1.n1 layers.*.n2 layers.*.n3",
    )  # fmt: skip


@structure
def detr_with_box_refinement() -> Structure:
    """RT-DETR, DINO: every layer moves its boxes, around a post-norm decoder."""

    def decode(m: Net, memory: Tensor) -> Tensor:
        x = m.queries.weight.expand(len(memory), -1, -1)
        box = m.first_box(x).sigmoid()
        for each in m.layers:
            query = m.box_query(box)
            x = each.n1(x + each.self_attention(x + query))
            x = each.n2(x + each.cross_attention(x + query, memory))
            x = each.n3(x + each.mlp(x))
            box = (each.delta(x) + torch.logit(box.clamp(1e-4, 1 - 1e-4))).sigmoid()
        return box

    layer = lambda: Net(
        decode, n1=norm(), n2=norm(), n3=norm(), self_attention=Attention(), mlp=mlp(),
        cross_attention=Attention(), delta=linear(D, 4),
    )  # fmt: skip
    model = detector(decode, layer, first_box=linear(D, 4), box_query=linear(4, D))
    # The boxes are a stream of their own: `delta` is a branch, and a layer's last norm is on the
    # next layer's skip. The last layer's norm feeds the last delta alone.
    return Structure(
        model=model, inputs=image(), inner="n2 layers.1.n3",
        shortcut=f"{ENCODER} layers.?.n1 layers.?.n2 layers.0.n3",
    )  # fmt: skip
