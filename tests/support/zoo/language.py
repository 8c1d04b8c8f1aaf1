"""Transformers for text, in the many places where their norms were put."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.zoo.parts import Attention, D, Net, linear, mlp, norm, repeat, rms, tokens
from tests.support.zoo.structure import Structure, structure

WORDS = 11


def lm(
    block: nn.Module | list[nn.Module], final: nn.Module | None = None, **more: nn.Module
) -> Net:
    """Embedding, blocks, perhaps a final norm, and an output head."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x = m.embed(ids)
        for layer in m.blocks:
            x = layer(x)
        return m.out(m.final(x))

    blocks = block if isinstance(block, list) else [block]
    return Net(
        forward, embed=nn.Embedding(WORDS, D), blocks=nn.ModuleList(blocks),
        final=final or nn.Identity(), out=linear(D, WORDS), **more,
    )  # fmt: skip


def stack(make: object, final: bool = True) -> Net:
    return lm([make() for _ in range(2)], norm() if final else None)


@structure
def pre_norm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.attention(m.n1(x))
        return x + m.mlp(m.n2(x))

    make = lambda: Net(forward, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


def post(m: Net, x: Tensor) -> Tensor:
    x = m.n1(x + m.attention(x))
    return m.n2(x + m.mlp(x))


@structure
def post_norm() -> Structure:
    make = lambda: Net(post, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
    return Structure(
        model=stack(make, final=False), inputs=tokens(),
        shortcut="blocks.?.n1 blocks.0.n2", head="blocks.1.n2",
    )  # fmt: skip


@structure
def deepnorm() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.n1(1.9 * x + m.attention(x))
        return m.n2(1.9 * x + m.mlp(x))

    make = lambda: Net(forward, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
    return Structure(
        model=stack(make, final=False), inputs=tokens(),
        shortcut="blocks.?.n1 blocks.0.n2", head="blocks.1.n2",
    )  # fmt: skip


@structure
def admin() -> Structure:
    """Admin: post-norm, with a learned vector on the skip, which is no gain."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.n(x * m.omega + m.mlp(x))

    make = lambda: Net(forward, n=norm(), omega=nn.Parameter(torch.ones(D)), mlp=mlp())
    return Structure(
        model=stack(make, final=False), inputs=tokens(),
        shortcut="blocks.0.n", head="blocks.1.n", other="blocks.*.omega",
    )  # fmt: skip


@structure
def sandwich() -> Structure:
    """Gemma 2, Peri-LN: a norm before and a norm after each part."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.n2(m.attention(m.n1(x)))
        return x + m.n4(m.mlp(m.n3(x)))

    make = lambda: Net(
        forward, n1=rms(), n2=rms(), n3=rms(), n4=rms(), attention=Attention(), mlp=mlp()
    )
    return Structure(
        model=stack(make), inputs=tokens(), head="final",
        inner="blocks.*.n1 blocks.*.n3", last="blocks.*.n2 blocks.*.n4",
    )  # fmt: skip


@structure
def sub_ln() -> Structure:
    """Sub-LN (Magneto): one more norm before each output projection."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n1(x)
        x = x + m.o(m.inside(m.v(h) * m.u(h).sigmoid()))
        return x + m.down(m.n3(m.up(m.n2(x)).relu()))

    make = lambda: Net(
        forward, n1=norm(), inside=norm(), n2=norm(), n3=norm(16), v=linear(), u=linear(),
        o=linear(), up=linear(D, 16), down=linear(16, D),
    )  # fmt: skip
    return Structure(
        model=stack(make), inputs=tokens(), inner="blocks.*.n? blocks.*.inside", head="final"
    )


@structure
def normformer() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + m.n2(m.attention(m.n1(x)))
        return m.skip * x + m.down(m.n4(m.up(m.n3(x)).relu()))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), n3=norm(), n4=norm(16), attention=Attention(),
        up=linear(D, 16), down=linear(16, D), skip=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    return Structure(
        model=stack(make), inputs=tokens(), head="final", other="blocks.*.skip",
        inner="blocks.*.n1 blocks.*.n3 blocks.*.n4", last="blocks.*.n2",
    )  # fmt: skip


@structure
def residual_dual() -> Structure:
    """ResiDual: a post-norm stream and a stream without norms, joined at the end."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        normed = plain = m.embed(ids)
        for f, n in zip(m.f, m.n, strict=True):
            y = f(normed)
            normed, plain = n(normed + y), plain + y
        return m.out(normed + m.final(plain))

    # The last sum joins two signals that both hold the embedding without a weight.
    model = Net(
        forward, embed=nn.Embedding(WORDS, D), f=repeat(3, mlp), n=repeat(3, norm), final=norm(),
        out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=tokens(), shortcut="n.0 n.1", head="n.2 final")


@structure
def parallel_attention() -> Structure:
    """GPT-J, PaLM: one norm feeds attention and feed-forward part, side by side."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(x)
        return x + m.attention(h) + m.mlp(h)

    make = lambda: Net(forward, n=norm(), attention=Attention(), mlp=mlp())
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n", head="final")


@structure
def parallel_two_norms() -> Structure:
    """GPT-NeoX: a norm for each of the parallel parts, their sum made first."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.mlp(m.n2(x)) + m.attention(m.n1(x)) + x

    make = lambda: Net(forward, n1=norm(), n2=norm(), attention=Attention(), mlp=mlp())
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")


@structure
def macaron() -> Structure:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = x + 0.5 * m.f1(m.n1(x))
        x = x + m.attention(m.n2(x))
        return x + 0.5 * m.f2(m.n3(x))

    make = lambda: Net(
        forward, n1=norm(), n2=norm(), n3=norm(), f1=mlp(), f2=mlp(), attention=Attention()
    )
    return Structure(model=stack(make), inputs=tokens(), inner="blocks.*.n?", head="final")
