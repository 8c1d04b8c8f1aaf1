"""What attention reads and writes: heads that talk, memory, latent queries, an encoder."""

# ruff: noqa: E731 - a block is a recipe of one line

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.zoo.language import WORDS, post, stack
from tests.support.zoo.parts import (
    Attention,
    D,
    Net,
    linear,
    mlp,
    norm,
    repeat,
    tokens,
)  # fmt: skip
from tests.support.zoo.structure import Structure, structure


@structure
def talking_heads() -> Structure:
    """Heads are mixed before and after the softmax; q and k have norms; a bias on the scores."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = m.n(x).unflatten(-1, (2, 4)).transpose(1, 2)
        q, k, v = m.qn(m.q(h)), m.kn(m.k(h)), m.v(h)
        scores = torch.einsum("gh,bhij->bgij", m.before, q @ k.mT) + m.bias[:, : x.shape[1]]
        mixed = torch.einsum("gh,bhij->bgij", m.after, scores.softmax(-1))
        return x + m.out((mixed @ v).transpose(1, 2).flatten(-2))

    make = lambda: Net(
        forward, n=norm(), qn=norm(4), kn=norm(4), q=linear(4, 4), k=linear(4, 4),
        v=linear(4, 4), out=linear(), before=nn.Parameter(torch.randn(2, 2)),
        after=nn.Parameter(torch.randn(2, 2)), bias=nn.Parameter(torch.randn(2, 9, 9)),
    )  # fmt: skip
    return Structure(
        model=stack(make), inputs=tokens(), inner="blocks.*.n blocks.*.?n", head="final"
    )


@structure
def memory_tokens() -> Structure:
    """Learned memory tokens before the text, dropped again before the head."""

    def forward(m: Net, ids: Tensor) -> Tensor:
        x = m.embed(ids)
        x = torch.cat([m.memory.expand(len(x), -1, -1), x], 1)
        for block in m.blocks:
            x = x + block.attention(block.n(x))
        return m.out(m.final(x)[:, 2:])

    blocks = repeat(2, lambda: Net(post, n=norm(), attention=Attention()))
    model = Net(
        forward, embed=nn.Embedding(WORDS, D), memory=nn.Parameter(torch.randn(1, 2, D)),
        blocks=blocks, final=norm(), out=linear(),
    )  # fmt: skip
    return Structure(model=model, inputs=tokens(), inner="blocks.*.n", head="final")


@structure
def encoder_decoder() -> Structure:
    """A pre-norm encoder whose final norm feeds cross-attention alone, and a decoder."""

    def forward(m: Net, source: Tensor, target: Tensor) -> Tensor:
        x, y = m.embed(source), m.embed(target)
        for block in m.encoder:
            x = x + block.mlp(block.n(x))
        memory = m.encoder_norm(x)
        for block in m.decoder:
            y = y + block.self_attention(block.n1(y))
            y = y + block.cross_attention(block.n2(y), memory)
        return m.out(m.decoder_norm(y))

    decoder = lambda: Net(
        post, n1=norm(), n2=norm(), self_attention=Attention(), cross_attention=Attention()
    )
    model = Net(
        forward, embed=nn.Embedding(WORDS, D), out=linear(), encoder_norm=norm(),
        encoder=repeat(2, lambda: Net(post, n=norm(), mlp=mlp())), decoder=repeat(2, decoder),
        decoder_norm=norm(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=(tokens(), tokens(7)), head="decoder_norm",
        inner="encoder.*.n encoder_norm decoder.*.n?",
    )  # fmt: skip


@structure
def perceiver() -> Structure:
    """Latent queries read the inputs, work among themselves, and a query reads them out."""

    def forward(m: Net, x: Tensor) -> Tensor:
        latents = m.latents.expand(len(x), -1, -1)
        latents = latents + m.read(m.n_latents(latents), m.n_inputs(m.enter(x)))
        for block in m.blocks:
            latents = latents + block.attention(block.n(latents))
        query = m.query.expand(len(x), -1, -1)
        return m.out(m.write(m.n_query(query), m.n_memory(latents)))

    model = Net(
        forward, enter=linear(), latents=nn.Parameter(torch.randn(1, 4, D)), n_latents=norm(),
        n_inputs=norm(), read=Attention(), query=nn.Parameter(torch.randn(1, 3, D)),
        blocks=repeat(2, lambda: Net(post, n=norm(), attention=Attention())), n_query=norm(),
        n_memory=norm(), write=Attention(), out=linear(),
    )  # fmt: skip
    return Structure(
        model=model, inputs=torch.randn(2, 9, D), inner="n_latents n_inputs blocks.*.n",
        head="n_query n_memory",
    )  # fmt: skip
