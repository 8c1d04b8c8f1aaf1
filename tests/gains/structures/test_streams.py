"""Mixtures of experts, and residual streams that learned matrices mix (hyper-connections)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.structures import (
    HEAD,
    HEAD_RMS,
    INNER,
    INNER_RMS,
    LAST,
    QK,
    SCALE,
    SHORTCUT,
    D,
    Net,
    build,
    linear,
    mlp,
    norm,
    placed,
    placed_small,
    spelled,
)

STREAMS = 3

# Experts ------------------------------------------------------------------------------------------


class Experts(nn.Module):
    """Two of four experts per token by a router, and one that every token goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.gate = linear(D, 4), linear(D, 1)
        self.experts = nn.ModuleList(mlp() for _ in range(4))
        self.shared = mlp()

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, D)
        weights, chosen = self.router(flat).softmax(-1).topk(2)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, place = torch.where(chosen == index)
            out.index_add_(0, token, expert(flat[token]) * weights[token, place, None])
        return (out + torch.sigmoid(self.gate(flat)) * self.shared(flat)).view_as(x)


def test_sum_of_routed_and_shared_experts_is_not_an_addition() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.post(m.moe(m.n(x))))

    net = Net(forward, embed=linear(), moe=Experts(), n=norm(), post=norm(), final=norm())
    assert placed(net) == {"n": INNER, "post": LAST, "final": HEAD}


def test_qwen2_moe_with_a_gated_shared_expert() -> None:
    model = build("qwen2_moe", "Qwen2MoeForCausalLM")
    assert placed_small("qwen2_moe", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.post_attention_layernorm": INNER_RMS,
            "model.norm": HEAD_RMS,
        },
    )


def test_deepseek_v3_norms_its_latent_queries_and_keys_before_weights() -> None:
    model = build("deepseek_v3", "DeepseekV3ForCausalLM")
    assert placed_small("deepseek_v3", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.self_attn.q_a_layernorm": INNER_RMS,
            "model.layers.*.self_attn.kv_a_layernorm": INNER_RMS,
            "model.layers.*.post_attention_layernorm": INNER_RMS,
            "model.norm": HEAD_RMS,
        },
    )


# Hyper-connections --------------------------------------------------------------------------------


def test_streams_mixed_by_matrices_made_from_the_signal_keep_a_free_skip() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        streams = m.stem(m.embed(x))[..., None, :].repeat(1, 1, STREAMS, 1)
        for i in range(2):
            flat = m.flat(streams.flatten(2))
            mix = m.mix[i](flat).unflatten(-1, (STREAMS, STREAMS)).softmax(-1)
            read, write = m.read[i](flat).sigmoid(), m.write[i](flat).sigmoid()
            out = m.block[i](m.n[i]((read[..., None] * streams).sum(-2)))
            streams = mix @ streams + write[..., None] * m.post[i](out)[..., None, :]
        return m.final(streams.sum(-2))

    def pair(outputs: int) -> nn.ModuleList:
        return nn.ModuleList(linear(STREAMS * D, outputs) for _ in range(2))

    def pair_of(make: type) -> nn.ModuleList:
        return nn.ModuleList(make() for _ in range(2))

    net = Net(
        forward, embed=linear(), stem=norm(), final=norm(),
        flat=nn.LayerNorm(STREAMS * D, elementwise_affine=False),
        mix=pair(STREAMS**2), read=pair(STREAMS), write=pair(STREAMS),
        n=nn.ModuleList([norm(), norm()]), post=nn.ModuleList([norm(), norm()]),
        block=nn.ModuleList([mlp(), mlp()]),
    )  # fmt: skip
    assert placed(net) == {
        "stem": SHORTCUT, "n.0": INNER, "n.1": INNER, "post.0": LAST, "post.1": LAST, "final": HEAD,
    }  # fmt: skip


def test_streams_mixed_by_learned_matrices_are_projection_shortcuts() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        streams = m.stem(m.embed(x))[..., None, :].repeat(1, 1, STREAMS, 1)
        for i in range(2):
            read = torch.einsum("bsnd,n->bsd", streams, m.read[i])
            out = m.write[i][:, None] * m.block[i](m.n[i](read))[..., None, :]
            streams = torch.einsum("bsnd,nk->bskd", streams, m.mix[i]) + out
        return m.final(streams.sum(-2))

    def pair(*shape: int) -> nn.ParameterList:
        return nn.ParameterList(nn.Parameter(torch.rand(shape)) for _ in range(2))

    net = Net(
        forward, embed=linear(), stem=norm(), final=norm(),
        mix=pair(STREAMS, STREAMS), read=pair(STREAMS), write=pair(STREAMS),
        n=nn.ModuleList([norm(), norm()]), block=nn.ModuleList([mlp(), mlp()]),
    )  # fmt: skip
    # The vector that spreads a branch over the streams multiplies the whole branch.
    assert placed(net) == {
        "stem": SHORTCUT, "n.0": INNER, "n.1": INNER, "write.0": SCALE, "write.1": SCALE,
        "final": HEAD,
    }  # fmt: skip


def test_deepseek_v4_mixes_its_streams_and_norms_compressed_keys() -> None:
    model = build("deepseek_v4", "DeepseekV4ForCausalLM")
    assert placed_small("deepseek_v4", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.post_attention_layernorm": INNER_RMS,
            "model.layers.*.self_attn.q_a_norm": INNER_RMS,  # a weight comes before the scores
            "model.layers.*.self_attn.kv_norm": QK,
            "model.layers.*.self_attn.compressor.kv_norm": QK,
            # Its scores choose what attention reads, and enter no softmax.
            "model.layers.*.self_attn.compressor.indexer.kv_norm": INNER_RMS,
            "model.norm": HEAD_RMS,
        },
    )
