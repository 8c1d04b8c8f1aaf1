"""What an export decides, under whose names, and what it refuses by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import gamma_nlp
from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.export import Export, export
from gamma_nlp.export.exported import ENGINES, TARGETS
from tests.support.families import FAMILIES


def made(key: str, to: str, policy: Any = "guidelines", **given: Any) -> Export:
    model = FAMILIES[key].build()
    table = gamma_nlp.categorize(model, method=given.pop("method", "auto"))
    return export(model, to=to, policy=policy, weight_decay=0.1, table=table, **given)


def zeros(done: Export) -> set[str]:
    return {name for name, value in done.coefficients.items() if value == 0}


OWN: Mapping[tuple[str, str], set[str]] = {
    ("llama", "torchtitan"): {"norm.weight"},
    ("qwen3", "torchtitan"): {"norm.weight"},
    ("llama", "olmo_core"): {"lm_head.norm.weight"},
    ("qwen3", "olmo_core"): {"lm_head.norm.weight"},
    ("olmo2", "olmo_core"): {"lm_head.norm.weight"},
    ("gemma3", "olmo_core"): {"lm_head.norm.weight"},
    ("llama", "megatron"): {"decoder.final_layernorm.weight"},
    ("mistral", "megatron"): {"decoder.final_layernorm.weight"},
    ("qwen3", "megatron"): {"decoder.final_layernorm.weight"},
}
"""Gains of these models that ``guidelines`` spares, as the engines call them."""


@pytest.mark.parametrize(("key", "to"), OWN)
def test_an_engine_with_its_own_models_gets_its_own_names(key: str, to: str) -> None:
    done = made(key, to)
    assert zeros(done) == OWN[key, to]
    assert done.rules is not None and len(done.rules.rules) == 1


def test_the_model_names_are_kept_where_they_are_asked_for() -> None:
    assert zeros(made("llama", "olmo_core", names="model")) == {"model.norm.weight"}


def test_megatron_gets_the_names_of_both_its_norms() -> None:
    names = made("llama", "megatron").coefficients
    assert "decoder.layers.0.input_layernorm.weight" in names
    assert "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight" in names


def test_gains_that_an_engine_stores_otherwise_decay_toward_what_the_policy_says() -> None:
    """OLMo-core stores Gemma 3's gains as they are: there 0 is gain 0, and 1 cannot be said."""
    assert made("gemma3", "olmo_core", "all").rules is not None
    with pytest.raises(GammaError, match=r"input_layernorm.*toward gain 1 .*the parameter is the"):
        made("gemma3", "olmo_core", DecayPolicy(target="one"))
    with pytest.raises(GammaError, match=r"toward gain 0 \(the parameter is gain - 1\)"):
        made("gemma3", "nemo_automodel")
    assert made("gemma3", "nemo_automodel", DecayPolicy(target="one")).rules is not None


REFUSED: Mapping[str, tuple[str, DecayPolicy, str]] = {
    "target one": ("torchtitan", DecayPolicy(target="one"), "toward gain 1"),
    "target start": ("megatron", DecayPolicy(target="start"), "first values"),
    "one target": ("timm", DecayPolicy(targets={"branch_inner": "start"}), "first values"),
    "schedule": ("olmo_core", DecayPolicy(schedule="cosine"), "on the schedule 'cosine'"),
    "one schedule": (
        "nemo_automodel",
        DecayPolicy(schedules={"weight": "constant"}),
        "q_proj.*on the schedule 'constant'",
    ),
    "coupled": ("olmo_core", DecayPolicy(mode="coupled"), "mode: decoupled"),
    "two strengths": ("timm", DecayPolicy(branch_inner=0.5), r"input_layernorm.*0\.05.*0\.1"),
    "joined": (
        "megatron",
        DecayPolicy(patterns={"*.q_proj.weight": 0.5}),
        "q_proj.weight' and .*k_proj.weight' in one parameter",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_engine_cannot_say_is_refused_by_name(case: str) -> None:
    to, policy, message = REFUSED[case]
    with pytest.raises(GammaError, match=message):
        made("llama", to, policy)


def test_what_does_not_decay_may_have_any_target() -> None:
    policy = DecayPolicy(targets={"head": "one"}, head=0.0)
    assert zeros(made("llama", "torchtitan", policy)) == {"norm.weight"}


@pytest.mark.parametrize("to", ["torchtitan", "nemo_automodel", "megatron", "timm"])
def test_decay_in_the_gradient_asks_for_an_optimizer_that_has_it(to: str) -> None:
    text = str(made("llama", to, DecayPolicy(mode="coupled")))
    assert "in the gradient" in text and "AdamW" not in text and '"adamw"' not in text


def test_a_model_that_an_engine_lacks_is_named_with_what_it_has() -> None:
    with pytest.raises(GammaError, match=r"'gemma2'.*known: llama, qwen3.*names='model'.*json"):
        made("gemma2", "torchtitan")


def test_a_part_that_an_engine_lacks_is_named() -> None:
    with pytest.raises(GammaError, match=r"llama has nothing like 'score.weight'"):
        made("llama_cls", "torchtitan")


def test_a_model_without_its_head_is_told_apart() -> None:
    model = FAMILIES["llama"].build().model
    with pytest.raises(GammaError, match="ForCausalLM"):
        export(model, to="olmo_core", table=gamma_nlp.categorize(model))


def test_an_unknown_engine_is_answered_with_the_closest() -> None:
    with pytest.raises(GammaError, match=r"'torch_titan'; did you mean 'torchtitan'\?"):
        made("llama", "torch_titan")
    assert set(TARGETS) == {*ENGINES, "json"}


def test_without_weight_decay_or_training_there_is_nothing_to_export() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    table = gamma_nlp.categorize(model, torch.randn(3, 4))
    with pytest.raises(GammaError, match="no decay to export"):
        export(model, to="timm", policy="none", weight_decay=0.0, table=table)
    for to in TARGETS:
        with pytest.raises(GammaError, match="every parameter of the model is frozen"):
            export(model.requires_grad_(False), to=to, names="model", table=table)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    table = gamma_nlp.categorize(model, torch.randn(3, 4))
    model[0].requires_grad_(False)
    assert set(export(model, to="timm", table=table).coefficients) == {
        *("1.weight", "1.bias", "2.weight", "2.bias")
    }


def test_json_says_of_each_parameter_what_it_is_how_it_decays_and_why() -> None:
    done = made("gemma3", "json")
    data = json.loads(done.text)
    rows = {row["name"]: row for row in data["parameters"]}
    gain = rows["model.layers.0.input_layernorm.weight"]
    assert (gain["category"], gain["weight_decay"], gain["center"]) == ("branch_inner", 0.1, -1.0)
    assert gain["reason"] and rows["model.norm.weight"]["weight_decay"] == 0.0
    assert rows["model.embed_tokens.weight"]["role"] == "embedding"
    assert len(rows) == len(list(FAMILIES["gemma3"].build().named_parameters()))


def test_low_precision_is_told_where_decay_would_have_been_gathered() -> None:
    model = FAMILIES["llama"].build().bfloat16()
    table = gamma_nlp.categorize(model)
    text = "decay that bfloat16 would round away is not gathered there"
    assert text in str(export(model, to="timm", table=table))
    assert text not in str(export(model, to="timm", policy="all_params", table=table))


def test_numbers_are_written_as_a_person_writes_them() -> None:
    text = str(made("llama", "torchtitan", DecayPolicy(branch_inner=0.3)))
    assert '"weight_decay": 0.03}' in text


def test_layers_by_number_are_pointed_out_where_ranks_count_their_own() -> None:
    some = DecayPolicy(patterns={"*.layers.1.input_layernorm.weight": 0.0})
    assert "not under pipeline parallelism" in str(made("llama", "megatron", some))
    assert "not under pipeline parallelism" not in str(made("llama", "megatron"))
