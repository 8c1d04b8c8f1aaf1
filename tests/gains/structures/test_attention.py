"""Norms around and inside attention: of memories, queries, keys, values, gates and positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from gamma_nlp import categorize
from tests.support.families import FAMILIES
from tests.support.golden_files import expected, golden_path, read_golden
from tests.support.structures import (
    HEAD,
    INNER,
    LAST,
    QK,
    SHORTCUT,
    D,
    Net,
    attend,
    build,
    linear,
    mlp,
    norm,
    placed,
    placed_small,
    short,
    signal,
    spelled,
)

HEADS = 2


def projections(*names: str) -> dict[str, nn.Module]:
    return {name: linear() for name in names}


def test_norm_of_a_memory_feeds_the_cross_attention_that_reads_it() -> None:
    def forward(m: Net, source: Tensor, target: Tensor) -> Tensor:
        memory = m.embed(source)
        memory = m.last(memory + m.a(m.n1(memory)))
        x = m.embed(target)
        x = x + m.o(attend(m.q(m.n2(x)), m.k(memory), m.v(memory)))
        return m.final(x + m.b(m.n3(x)))

    net = Net(
        forward, embed=linear(), a=mlp(), b=mlp(), **projections("q", "k", "v", "o"),
        n1=norm(), last=norm(), n2=norm(), n3=norm(), final=norm(),
    )  # fmt: skip
    assert placed(net, (signal(), signal())) == {
        "n1": INNER, "last": INNER, "n2": INNER, "n3": INNER, "final": HEAD,
    }  # fmt: skip


def test_post_norm_encoder_ends_in_branch_inner_where_only_cross_attention_reads_it() -> None:
    def forward(m: Net, source: Tensor, target: Tensor) -> Tensor:
        memory = m.n1(m.embed(source))
        memory = m.n2(memory + m.a(memory))
        x = m.n3(m.embed(target))
        x = m.n4(x + m.o(attend(m.q(x), m.k(memory), m.v(memory))))
        return m.n5(x + m.b(x))

    net = Net(
        forward, embed=linear(), a=mlp(), b=mlp(), **projections("q", "k", "v", "o"),
        n1=norm(), n2=norm(), n3=norm(), n4=norm(), n5=norm(),
    )  # fmt: skip
    assert placed(net, (signal(), signal())) == {
        "n1": SHORTCUT, "n2": INNER, "n3": SHORTCUT, "n4": SHORTCUT, "n5": HEAD,
    }  # fmt: skip


def rotate(x: Tensor) -> Tensor:
    """Rotary embedding: a sum of two activations that is not a residual addition."""
    angles = torch.arange(x.shape[-2])[:, None] * torch.ones(x.shape[-1])
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


def test_rotary_embedding_is_not_an_addition_and_leaves_per_head_norms_of_q_and_k() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        q, k, v = (p(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (m.q, m.k, m.v))
        read = attend(rotate(m.qn(q)), rotate(m.kn(k)), v)
        return m.final(x + m.o(read.transpose(1, 2).flatten(2)))

    net = Net(
        forward, embed=linear(), **projections("q", "k", "v", "o"),
        n=norm(), qn=norm(D // HEADS), kn=norm(D // HEADS), final=norm(),
    )  # fmt: skip
    assert placed(net) == {"n": INNER, "qn": QK, "kn": QK, "final": HEAD}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_is_read_as_attention() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        def bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + m.bias[i - j + 16]

        x = m.embed(x)
        h = m.n(x)[:, None]
        read = flex_attention(m.qn(m.q(h)), m.kn(m.k(h)), m.vn(m.v(h)), score_mod=bias)
        return m.final(x + m.o(read[:, 0]))

    net = Net(
        forward, embed=linear(), **projections("q", "k", "v", "o"), n=norm(), qn=norm(), kn=norm(),
        vn=norm(), final=norm(), bias=nn.Parameter(torch.zeros(33)),
    )  # fmt: skip
    assert placed(net, signal(2, 16, D)) == {
        "n": INNER, "qn": QK, "kn": QK, "vn": INNER, "final": HEAD,
    }  # fmt: skip


def test_norm_with_one_gain_per_head_and_channel_is_a_gain() -> None:
    class PerHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(HEADS, 1, D // HEADS))

        def forward(self, x: Tensor) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (m.q, m.k, m.v))
        read = attend(m.qn(q), k, m.vn(v))
        return m.out(x + m.o(read.transpose(1, 2).flatten(2)))

    net = Net(
        forward, embed=linear(), out=linear(), **projections("q", "k", "v", "o"),
        qn=PerHead(), vn=PerHead(),
    )  # fmt: skip
    assert placed(net) == {"qn": QK, "vn": INNER}


def test_norms_of_values_gates_and_attention_output_are_branch_inner_before_a_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        read = m.readn(attend(m.q(h), m.k(h), m.vn(m.v(h))))
        return m.out(x + m.o(read * torch.sigmoid(m.gn(m.g(h)))))

    net = Net(
        forward, embed=linear(), out=linear(), **projections("q", "k", "v", "g", "o"),
        n=norm(), vn=norm(), gn=norm(), readn=norm(),
    )  # fmt: skip
    assert placed(net) == {"n": INNER, "vn": INNER, "gn": INNER, "readn": INNER}


def test_norm_of_values_ends_the_branch_where_attention_has_no_output_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        return m.out(x + attend(m.q(h), m.k(h), m.vn(m.v(h))))

    net = Net(
        forward, embed=linear(), out=linear(), **projections("q", "k", "v"), n=norm(), vn=norm()
    )
    assert placed(net) == {"n": INNER, "vn": LAST}


def test_disentangled_attention_norms_a_table_of_relative_positions() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.n0(m.embed(x))
        relative = m.table_norm(m.relative.weight)
        q, k, v = m.q(x), m.k(x), m.v(x)
        to_position = (q @ m.pk(relative).t())[..., :5]
        from_position = (k @ m.pq(relative).t())[..., :5].transpose(1, 2)
        scores = q @ k.transpose(1, 2) + to_position + from_position
        return m.out(m.n1(x + m.o(scores.softmax(-1) @ v)))

    net = Net(
        forward, embed=linear(), out=linear(), **projections("q", "k", "v", "o", "pq", "pk"),
        relative=nn.Embedding(7, D), n0=norm(), n1=norm(), table_norm=norm(),
    )  # fmt: skip
    assert placed(net) == {"n0": SHORTCUT, "table_norm": INNER, "n1": HEAD}


def test_position_bias_that_mpnet_adds_to_its_scores_is_not_an_addition() -> None:
    model = build("mpnet", "MPNetForMaskedLM")
    assert placed_small("mpnet", model) == spelled(
        model,
        {
            "mpnet.embeddings.LayerNorm": SHORTCUT,
            "mpnet.encoder.layer.*.attention.LayerNorm": SHORTCUT,
            "mpnet.encoder.layer.2.output.LayerNorm": HEAD,
            "mpnet.encoder.layer.*.output.LayerNorm": SHORTCUT,
            "lm_head.layer_norm": HEAD,
        },
    )


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_position_bias_of_t5_is_not_an_addition_in_either_attention(kernel: str) -> None:
    model = FAMILIES["t5"].build()
    model.set_attn_implementation(kernel)
    rows = expected(model, read_golden(golden_path("t5")))
    table = categorize(model, FAMILIES["t5"].inputs(), method="graph")
    assert {g.name: (str(g.category), g.kind, g.offset) for g in table} == rows
    assert model.config._attn_implementation == kernel


@pytest.mark.parametrize("from_norm", [False, True])
def test_bloom_takes_its_skips_before_or_after_its_norms(from_norm: bool) -> None:
    model = build("bloom", "BloomForCausalLM", apply_residual_connection_post_layernorm=from_norm)
    block = SHORTCUT if from_norm else INNER
    assert placed_small("bloom", model) == spelled(
        model,
        {
            "transformer.word_embeddings_layernorm": SHORTCUT,
            "transformer.h.*.input_layernorm": block,
            "transformer.h.*.post_attention_layernorm": block,
            "transformer.ln_f": HEAD,
        },
    )


def test_latent_tokens_of_a_perceiver_are_a_trunk_of_their_own() -> None:
    model = build("perceiver", "PerceiverForMaskedLM")
    decoder = "perceiver.decoder.decoding_cross_attention"
    assert placed_small("perceiver", model) == spelled(
        model,
        {
            "perceiver.encoder.cross_attention.attention.self.layernorm1": INNER,
            "perceiver.encoder.cross_attention.attention.self.layernorm2": INNER,
            "perceiver.encoder.cross_attention.layernorm": INNER,
            "perceiver.encoder.self_attends.*.attention.self.layernorm1": INNER,
            "perceiver.encoder.self_attends.*.layernorm": INNER,
            # This attention has no skip: its output is the skip of the feed-forward part.
            f"{decoder}.attention.self.layernorm1": SHORTCUT,
            f"{decoder}.attention.self.layernorm2": SHORTCUT,
            f"{decoder}.layernorm": INNER,
        },
    )


def test_table_of_learned_queries_is_read_like_tokens() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        memory = m.stem(m.embed(x))
        tokens = m.tokens.expand(x.shape[0], -1, -1)
        tokens = tokens + m.o(attend(m.q(m.n1(tokens)), m.k(memory), m.v(memory)))
        return m.final(tokens + m.a(m.n2(tokens)))

    net = Net(
        forward, embed=linear(), a=mlp(), **projections("q", "k", "v", "o"), stem=norm(),
        n1=norm(), n2=norm(), final=norm(), tokens=nn.Parameter(torch.randn(3, D)),
    )  # fmt: skip
    table = categorize(net, signal())
    assert short(table) == {"stem": INNER, "n1": INNER, "n2": INNER, "final": HEAD}
