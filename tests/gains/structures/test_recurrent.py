"""State-space and recurrent blocks, and hybrids of them with attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.support.structures import (
    HEAD,
    HEAD_RMS,
    INNER,
    INNER_RMS,
    QK,
    SHORTCUT,
    D,
    Net,
    build,
    linear,
    norm,
    placed,
    placed_small,
    spelled,
)

# Recurrence ---------------------------------------------------------------------------------------


def test_mamba_norms_are_branch_inner_and_its_direct_term_is_not_an_addition() -> None:
    model = build("mamba", "MambaForCausalLM")
    assert placed_small("mamba", model) == spelled(
        model, {"backbone.layers.*.norm": INNER_RMS, "backbone.norm_f": HEAD_RMS}
    )


def test_gated_norm_of_mamba_2_feeds_its_output_weight() -> None:
    model = build("mamba2", "Mamba2ForCausalLM")
    assert placed_small("mamba2", model) == spelled(
        model,
        {
            "backbone.layers.*.norm": INNER_RMS,
            "backbone.layers.*.mixer.norm": INNER_RMS,
            "backbone.norm_f": HEAD_RMS,
        },
    )


def test_rwkv_norms_its_embeddings_on_the_trunk() -> None:
    model = build("rwkv", "RwkvForCausalLM")
    assert placed_small("rwkv", model) == spelled(
        model,
        {
            "rwkv.blocks.0.pre_ln": SHORTCUT,
            "rwkv.blocks.*.ln1": INNER,
            "rwkv.blocks.*.ln2": INNER,
            "rwkv.ln_out": HEAD,
        },
    )


def test_norm_per_head_of_xlstm_feeds_its_output_weight() -> None:
    model = build("xlstm", "xLSTMForCausalLM")
    assert placed_small("xlstm", model) == spelled(
        model,
        {
            "backbone.blocks.*.norm_mlstm": INNER_RMS,
            "backbone.blocks.*.norm_ffn": INNER_RMS,
            "backbone.blocks.*.mlstm_layer.multihead_norm": INNER,
            "backbone.out_norm": HEAD_RMS,
        },
    )


def test_recurrent_gemma_stores_its_gains_less_one() -> None:
    model = build("recurrent_gemma", "RecurrentGemmaForCausalLM")
    assert placed_small("recurrent_gemma", model) == spelled(
        model,
        {
            "model.layers.*.temporal_pre_norm": f"{INNER_RMS} +1",
            "model.layers.*.channel_pre_norm": f"{INNER_RMS} +1",
            "model.final_norm": f"{HEAD_RMS} +1",
        },
    )


def test_recurrence_over_time_steps_makes_no_residual_addition_of_its_sums() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        h = m.n(x)
        state, states = torch.zeros_like(h[:, 0]), []
        for t in range(h.shape[1]):
            state = m.decay * state + m.b(h[:, t])
            states.append(m.read_norm(state) + m.direct * h[:, t])
        return m.final(x + m.o(torch.stack(states, 1)))

    net = Net(
        forward, embed=linear(), b=linear(), o=linear(), n=norm(), read_norm=norm(), final=norm(),
        decay=nn.Parameter(torch.rand(D)), direct=nn.Parameter(torch.ones(D)),
    )  # fmt: skip
    assert placed(net) == {"n": INNER, "read_norm": INNER, "final": HEAD}


# Hybrids ------------------------------------------------------------------------------------------


def test_jamba_norms_inside_its_mamba_layers_and_before_experts_are_branch_inner() -> None:
    model = build("jamba", "JambaForCausalLM", attn_layer_period=2, attn_layer_offset=1)
    assert model.config.layers_block_type == ["mamba", "attention", "mamba"]
    assert placed_small("jamba", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.pre_ff_layernorm": INNER_RMS,
            "model.layers.*.mamba.dt_layernorm": INNER_RMS,
            "model.layers.*.mamba.b_layernorm": INNER_RMS,
            "model.layers.*.mamba.c_layernorm": INNER_RMS,
            "model.final_layernorm": HEAD_RMS,
        },
    )


def test_block_that_zamba_shares_between_layers_is_placed_once() -> None:
    model = build("zamba", "ZambaForCausalLM")
    assert model.model.layers[2].shared_transf.input_layernorm.weight is (
        model.model.layers[4].shared_transf.input_layernorm.weight
    )
    assert placed_small("zamba", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.mamba_decoder.input_layernorm": INNER_RMS,
            # Their sum with the trunk is normed again inside the branch that follows.
            "model.layers.2.shared_transf.input_layernorm": INNER_RMS,
            "model.layers.2.shared_transf.pre_ff_layernorm": INNER_RMS,
            "model.final_layernorm": HEAD_RMS,
        },
    )


def test_adapters_of_zamba_2_in_its_shared_block_are_not_additions() -> None:
    model = build("zamba2", "Zamba2ForCausalLM")
    assert placed_small("zamba2", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.mamba.norm": INNER_RMS,
            "model.layers.*.mamba_decoder.input_layernorm": INNER_RMS,
            "model.layers.*.mamba_decoder.mamba.norm": INNER_RMS,
            "model.layers.*.shared_transformer.input_layernorm": INNER_RMS,
            "model.layers.*.shared_transformer.pre_ff_layernorm": INNER_RMS,
            "model.final_layernorm": HEAD_RMS,
        },
    )


def test_bamba_mixes_mamba_2_with_attention() -> None:
    model = build("bamba", "BambaForCausalLM")
    assert placed_small("bamba", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.pre_ff_layernorm": INNER_RMS,
            "model.layers.*.mamba.norm": INNER_RMS,
            "model.final_layernorm": HEAD_RMS,
        },
    )


@pytest.mark.parametrize("before_gate", [False, True])
def test_falcon_h1_runs_mamba_and_attention_in_parallel(before_gate: bool) -> None:
    model = build(
        "falcon_h1", "FalconH1ForCausalLM", mamba_rms_norm=True, mamba_n_groups=2,
        mamba_norm_before_gate=before_gate,
    )  # fmt: skip
    assert placed_small("falcon_h1", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": INNER_RMS,
            "model.layers.*.pre_ff_layernorm": INNER_RMS,
            "model.layers.*.mamba.norm": INNER_RMS,
            "model.final_layernorm": HEAD_RMS,
        },
    )


def test_qwen3_next_stores_some_gains_less_one_and_others_whole() -> None:
    model = build("qwen3_next", "Qwen3NextForCausalLM")
    assert placed_small("qwen3_next", model) == spelled(
        model,
        {
            "model.layers.*.input_layernorm": f"{INNER_RMS} +1",
            "model.layers.*.post_attention_layernorm": f"{INNER_RMS} +1",
            "model.layers.*.linear_attn.norm": INNER_RMS,
            "model.layers.*.self_attn.q_norm": f"{QK} +1",
            "model.layers.*.self_attn.k_norm": f"{QK} +1",
            "model.norm": f"{HEAD_RMS} +1",
        },
    )
