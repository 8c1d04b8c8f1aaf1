"""The name tables against the graph: every type they are for, every config field they look at."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from gamma_nlp import GainTable, GammaError, categorize
from gamma_nlp.check.sweep import small_inputs, small_models
from gamma_nlp.gains import name_tables

# A small MobileBERT leaves no width for a part of its head.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")

LAYOUTS = [
    layout
    for layout in name_tables.layouts()
    if not any("module." in field for field in layout.conditions)
]
NAMED = set[str]().union(*(layout.types for layout in LAYOUTS))
TYPES = sorted(NAMED & small_models.text_types().keys())

_DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_encoder_layers",
    "num_decoder_layers", "encoder_layers", "decoder_layers",
)  # fmt: skip
_ADAPTER = {
    "adapter_layer_norm": False,
    "adapter_reuse_layer_norm": True,
    "ln_before_adapter": True,
}

# Values of the fields that move or remove norms: each has a table.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("albert", {"num_hidden_layers": 2}),
    ("albert", {"num_hidden_layers": 12}),
    ("albert", {"inner_group_num": 2}),
    ("bloom", {"apply_residual_connection_post_layernorm": False}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("cohere", {"use_qk_norm": False}),
    ("cohere", {"use_qk_norm": True}),
    ("deberta-v2", {"num_hidden_layers": 2, "conv_kernel_size": 3}),
    ("deberta-v2", {"relative_attention": False}),
    *(
        (
            "deberta-v2",
            {"relative_attention": True, "pos_att_type": kind, "norm_rel_ebd": "layer_norm"},
        )
        for kind in (["c2p"], ["p2c", "c2p"], "p2c|c2p")
    ),
    ("deepseek_v3", {"q_lora_rank": None}),
    ("esm", {"emb_layer_norm_before": None}),
    ("esm", {"emb_layer_norm_before": False}),
    ("esm", {"emb_layer_norm_before": True}),
    *(
        ("falcon", {"new_decoder_architecture": False, "parallel_attn": parallel, "alibi": alibi})
        for parallel in (False, True)
        for alibi in (False, True)
    ),
    ("falcon", {"new_decoder_architecture": False, "num_ln_in_parallel_attn": 1}),
    *(
        ("falcon", {"new_decoder_architecture": True, "num_ln_in_parallel_attn": norms})
        for norms in (None, 1, 2)
    ),
    ("flaubert", {"pre_norm": False}),
    ("glm4_moe", {"use_qk_norm": False}),
    ("glm4_moe", {"use_qk_norm": True}),
    ("gpt_bigcode", {"add_cross_attention": False, "multi_query": False}),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("gpt_neox", {"use_parallel_residual": True}),
    ("longt5", {"encoder_attention_type": "local"}),
    ("longt5", {"encoder_attention_type": "transient-global"}),
    ("mobilebert", {"use_bottleneck": False}),
    ("mobilebert", {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False}),
    ("mobilebert", {"key_query_shared_bottleneck": False, "num_feedforward_networks": 1}),
    ("opt", {"do_layer_norm_before": False}),
    ("opt", {"do_layer_norm_before": True}),
    ("opt", {"layer_norm_elementwise_affine": False}),
    ("opt", {"_remove_final_layer_norm": True}),
    *((name, {"qk_layernorm": on}) for name in ("persimmon", "phi") for on in (False, True)),
    *(
        ("stablelm", {"use_parallel_residual": parallel, "qk_layernorm": on})
        for parallel in (False, True)
        for on in (False, True)
    ),
    ("trocr", {"layernorm_embedding": False}),
    ("trocr", {"layernorm_embedding": True}),
    ("xmod", {"pre_norm": False, **_ADAPTER}),
    ("xmod", {"pre_norm": True, **_ADAPTER}),
]

# Models that no table is for, though their type has one.
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("albert", {"num_hidden_layers": 1}),
    ("albert", {"num_hidden_groups": 2}),
    ("deberta-v2", {"num_hidden_layers": 1, "conv_kernel_size": 3}),
    ("deberta-v2", {"relative_attention": True, "pos_att_type": []}),
    ("flaubert", {"pre_norm": True}),
    ("gpt_bigcode", {"add_cross_attention": True, "multi_query": False}),
    ("mobilebert", {"normalization_type": "layer_norm"}),
    ("xmod", {"languages": []}),
    ("xmod", {**_ADAPTER, "adapter_layer_norm": True}),
    ("xmod", {**_ADAPTER, "adapter_reuse_layer_norm": False}),
    ("xmod", {**_ADAPTER, "ln_before_adapter": False}),
]


def label(value: Any) -> str | None:
    """A readable id for the fields of a variant."""
    if not isinstance(value, dict):
        return None
    return ",".join(f"{k}={v}" for k, v in value.items())


def small(model_type: str, class_name: str, fields: dict[str, Any]) -> nn.Module:
    """A small model whose config has these fields; the same at every call."""
    config = small_models.small_config(model_type, class_name)
    config = type(config)(**{**config.to_dict(), **fields})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = getattr(transformers, class_name)(config)
        small_models.randomise(model)
    return model.eval()


def first_class(model_type: str) -> str:
    return small_models.text_types()[model_type][0]


def placed(table: GainTable) -> dict[str, tuple[str, str, float]]:
    return {gain.name: (str(gain.category), gain.kind, gain.offset) for gain in table}


def assert_sources_agree(model_type: str, model: nn.Module) -> None:
    inputs = small_inputs.inputs(model_type, model)
    if {"encoder_hidden_states", "input_ids"} <= inputs.keys():
        # As long as the decoder's own: the cross-attention of some classes takes no other length.
        size = (*inputs["input_ids"].shape, inputs["encoder_hidden_states"].shape[-1])
        inputs["encoder_hidden_states"] = torch.randn(
            size, generator=torch.Generator().manual_seed(0)
        )
    table = categorize(model, method="table")
    graph = categorize(model, inputs, method="graph")
    # What the forward pass never reaches is not a contradiction.
    unused = {gain.name for gain in graph if gain.category is None}
    by_table, by_graph = (
        {name: found for name, found in placed(source).items() if name not in unused}
        for source in (table, graph)
    )
    assert by_table == by_graph
    assert {name: role for name, role in table.roles.items() if name not in unused} == graph.roles


@pytest.mark.skipif(transformers.__version__ != "5.23.0", reason="types come and go")
def test_every_type_of_the_tables_is_one_that_transformers_lists() -> None:
    assert sorted(NAMED) == TYPES


@pytest.mark.parametrize("model_type", TYPES)
def test_table_and_graph_agree_on_every_type_that_has_a_table(model_type: str) -> None:
    model = small_models.build(model_type, first_class(model_type))
    assert_sources_agree(model_type, model)


@pytest.mark.parametrize(("model_type", "fields"), VARIANTS, ids=label)
def test_table_and_graph_agree_where_a_config_field_moves_norms(
    model_type: str, fields: dict[str, Any]
) -> None:
    assert_sources_agree(model_type, small(model_type, first_class(model_type), fields))


@pytest.mark.parametrize(("model_type", "fields"), REFUSED, ids=label)
def test_layout_that_no_table_describes_is_refused(model_type: str, fields: dict[str, Any]) -> None:
    model = small(model_type, first_class(model_type), fields)
    with pytest.raises(GammaError, match="no name table holds"):
        categorize(model, method="table")


@pytest.mark.parametrize(("model_type", "fields"), VARIANTS, ids=label)
def test_unknown_value_of_a_field_that_moves_norms_means_no_table(
    model_type: str, fields: dict[str, Any]
) -> None:
    model = small(model_type, first_class(model_type), fields)
    config: Any = model.config
    layout = name_tables.layout_for(model)
    assert layout is not None
    for name in (condition.removeprefix("config.") for condition in layout.conditions):
        known = getattr(config, name)
        vars(config)[name] = "no such value"  # past the config's own validation
        assert name_tables.layout_for(model) is None, name
        vars(config)[name] = known
    assert name_tables.layout_for(model) is layout


def test_every_value_that_a_table_looks_for_has_a_variant_above() -> None:
    shown = set()
    for model_type, fields in VARIANTS:
        model = small(model_type, first_class(model_type), fields)
        layout = name_tables.layout_for(model)
        assert layout is not None
        for condition in layout.conditions:
            value = getattr(model.config, condition.removeprefix("config."))
            shown.add((model_type, layout.name, condition, str(value)))
    wanted = {
        (model_type, layout.name, condition, value)
        for layout in LAYOUTS
        for model_type in layout.types
        for condition, values in layout.conditions.items()
        for value in values
        if not re.search(r"[*?\[]", value) and not layout.lacks  # there the class decides too
    }
    assert wanted <= shown


def test_norm_in_name_only_is_not_a_gain_and_no_contradiction_where_it_is_never_reached() -> None:
    model = small("mobilebert", "MobileBertForMaskedLM", {"use_bottleneck_attention": True})
    by_table = categorize(model, method="table")
    assert [gain.name for gain in by_table] == ["cls.predictions.transform.LayerNorm.weight"]
    assert str(by_table.roles["mobilebert.embeddings.LayerNorm.weight"]) == "other"
    with pytest.warns(UserWarning, match=r"never reached.*bottleneck.attention.LayerNorm"):
        both = categorize(model, small_inputs.inputs("mobilebert", model))
    assert {gain.source for gain in both} == {"table+graph"}


def test_model_whose_norms_have_no_parameters_has_a_table_without_gains() -> None:
    model = small_models.build("olmo", "OlmoForCausalLM")
    for method in ("table", "graph", "auto"):
        assert len(categorize(model, method=method)) == 0


@pytest.mark.parametrize("model_type", ["longt5", "switch_transformers", "t5gemma", "umt5"])
def test_last_norm_of_an_encoder_is_a_head_where_no_decoder_reads_it(model_type: str) -> None:
    name = first_class(model_type).replace("ForConditionalGeneration", "EncoderModel")
    fields = {"is_encoder_decoder": False} if model_type == "t5gemma" else {}
    alone = small(model_type, name, fields)
    assert_sources_agree(model_type, alone)
    heads = [
        gain.name for gain in categorize(alone, method="table") if str(gain.category) == "head"
    ]
    assert heads in (["encoder.final_layer_norm.weight"], ["encoder.norm.weight"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gains are never reached")  # no encoder's states are given
@pytest.mark.parametrize("model_type", TYPES)
def test_table_and_graph_agree_on_every_class_with_and_without_cross_attention(
    model_type: str,
) -> None:
    for name in small_models.text_types()[model_type]:
        assert_sources_agree(model_type, small_models.build(model_type, name))
        if model_type != "gpt_bigcode":  # its cross-attention fails
            decoder = {"is_decoder": True, "add_cross_attention": True}
            assert_sources_agree(model_type, small(model_type, name, decoder))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted({*TYPES} - {"albert", "deberta-v2", "t5gemma"}))
def test_table_and_graph_agree_where_the_first_layer_is_the_last(model_type: str) -> None:
    config = small_models.small_config(model_type, first_class(model_type)).to_dict()
    fields: dict[str, Any] = {name: 1 for name in _DEPTHS if name in config}
    if config.get("layer_types"):
        fields["layer_types"] = config["layer_types"][:1]
    if model_type == "gpt_neo":
        fields |= {"attention_types": [[["global"], 1]], "attention_layers": ["global"]}
    assert_sources_agree(model_type, small(model_type, first_class(model_type), fields))
