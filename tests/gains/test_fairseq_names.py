"""fairseq's names: table and graph on its Transformer, in both norm placements."""

from __future__ import annotations

import pytest
import torch

from gamma_nlp import GammaError, categorize
from tests.support.fairseq_like import TransformerModel

TOKENS = torch.arange(3, 11)[None]
POST_NORM = {
    "encoder.layernorm_embedding": "shortcut",
    "encoder.layers.0.self_attn_layer_norm": "shortcut",
    "encoder.layers.0.final_layer_norm": "shortcut",
    "encoder.layers.2.final_layer_norm": "branch_inner",  # read by cross-attention alone
    "decoder.layernorm_embedding": "shortcut",
    "decoder.layers.0.self_attn_layer_norm": "shortcut",
    "decoder.layers.0.encoder_attn_layer_norm": "shortcut",
    "decoder.layers.0.final_layer_norm": "shortcut",
    "decoder.layers.2.final_layer_norm": "head",
}
PRE_NORM = {
    "encoder.layernorm_embedding": "shortcut",
    "encoder.layers.0.self_attn_layer_norm": "branch_inner",
    "encoder.layers.2.final_layer_norm": "branch_inner",
    "encoder.layer_norm": "branch_inner",
    "decoder.layernorm_embedding": "shortcut",
    "decoder.layers.0.self_attn_layer_norm": "branch_inner",
    "decoder.layers.2.encoder_attn_layer_norm": "branch_inner",
    "decoder.layers.2.final_layer_norm": "branch_inner",
    "decoder.layer_norm": "head",
}


@pytest.mark.parametrize("embedding_norm", [False, True])
@pytest.mark.parametrize(("before", "expected"), [(False, POST_NORM), (True, PRE_NORM)])
def test_table_and_graph_agree_on_fairseq_names(
    before: bool, expected: dict[str, str], embedding_norm: bool
) -> None:
    model = TransformerModel(before, before, embedding_norm)
    table = categorize(model, (TOKENS, TOKENS))
    assert {gain.source for gain in table} == {"table+graph"}
    found = {gain.name.removesuffix(".weight"): str(gain.category) for gain in table}
    wanted = {k: v for k, v in expected.items() if embedding_norm or "embedding" not in k}
    assert {name: found[name] for name in wanted} == wanted
    assert len(found) == (17 if before else 15) + 2 * embedding_norm


def test_mixed_placements_are_left_to_the_graph() -> None:
    model = TransformerModel(True, False, False)
    with pytest.raises(GammaError, match="no name table holds for TransformerModel"):
        categorize(model, method="table")
    table = categorize(model, (TOKENS, TOKENS))
    assert str(table["encoder.layer_norm.weight"].category) == "branch_inner"
    assert str(table["decoder.layers.2.final_layer_norm.weight"].category) == "head"
