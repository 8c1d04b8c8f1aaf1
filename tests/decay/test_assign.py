from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from gamma_nlp.decay.assign import Decay, assign, table_for
from gamma_nlp.decay.groups import param_groups
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import Toy, gain, toy_table


def test_assign_multiplies_weight_decay_and_puts_gain_zero_at_minus_the_offset() -> None:
    settings = assign(toy_table(), DecayPolicy(branch_inner=0.5), 0.1)
    assert settings["inner"] == Decay(coefficient=0.05)
    assert settings["last"] == Decay(coefficient=0.1, center=-1.0)
    assert settings["trunk"].coefficient == settings["w_bias"].coefficient == 0.0
    assert list(settings) == ["inner", "last", "trunk", "final", *toy_table().roles]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_table_of_the_bare_model_fits_the_wrapped_one(prefix: str) -> None:
    model: nn.Module = Toy()
    for part in reversed(prefix.strip(".").split(".")):
        wrapper = nn.Module()
        wrapper.add_module(part, model)
        model = wrapper
    groups = param_groups(model, weight_decay=0.1, policy="none", table=toy_table())
    assert groups[0]["weight_decay"] == 0.1 and groups[0]["param_names"] == ["embed", "w"]


@pytest.mark.parametrize("policy", ["guidelines", "input_only", "all", "all_params"])
def test_weight_decay_zero_under_a_policy_that_decays_gains(policy: str) -> None:
    with pytest.raises(GammaError, match=r"weight_decay is 0 \(the default of TrainingArguments"):
        assign(toy_table(), PRESETS[policy], 0.0)


def test_weight_decay_zero_is_fine_where_no_gain_decays() -> None:
    assert {s.coefficient for s in assign(toy_table(), PRESETS["none"], 0.0).values()} == {0.0}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_bad_weight_decay(value: object) -> None:
    with pytest.raises(GammaError, match="weight_decay must be"):
        assign(toy_table(), PRESETS["none"], value)  # type: ignore[arg-type]


def test_pattern_that_matches_nothing_gets_close_names() -> None:
    policy = DecayPolicy(patterns={"*iner": 0.0})
    with pytest.raises(GammaError, match=r"pattern '\*iner' matches no parameter.*'inner'"):
        assign(toy_table(), policy, 0.1)


def test_parameter_missing_from_the_table_is_named() -> None:
    table = GainTable(gains=(gain("inner", Category.HEAD),), roles=toy_table().roles)
    with pytest.raises(GammaError, match="parameter 'last' is not in the gain table"):
        param_groups(Toy(), weight_decay=0.1, policy="none", table=table)


def test_what_is_no_table_is_refused_by_its_type() -> None:
    with pytest.raises(GammaError, match="table must be the GainTable that categorize returns"):
        param_groups(Toy(), weight_decay=0.1, table="gain_table.json")  # type: ignore[arg-type]


def test_multipliers_above_one_enlarge_the_decay() -> None:
    policy = DecayPolicy(branch_inner=2.5, branch_last=0.0, weight=3.0, kinds={"layer_norm": 4.0})
    settings = assign(toy_table(), policy, 0.1)
    assert settings["w"].coefficient == pytest.approx(0.3)
    assert settings["inner"].coefficient == pytest.approx(0.4)


def test_a_schedule_for_normalized_weights_has_the_model_traced() -> None:
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        vocab_size=11,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    policy = DecayPolicy(schedules={"normalized": "lr_squared"})
    optimizer = make_optimizer(torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, policy=policy)
    scheduled = {
        name
        for group in optimizer.param_groups
        for name in group["param_names"]
        if group.get("gamma_schedule")
    }
    weights = {n for n, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in n}
    assert scheduled == weights - {"bert.pooler.dense.weight", "classifier.weight"}


def test_weights_that_a_norm_follows_need_inputs_that_say_so() -> None:
    policy = DecayPolicy(schedules={"normalized": "lr_squared"})
    with pytest.raises(GammaError, match=r"schedules\['normalized'\] needs a forward pass"):
        table_for(Toy(), None, toy_table(), policy)
    known = dataclasses.replace(toy_table(), normalized=frozenset({"inner"}))
    assert table_for(Toy(), None, known, policy) is known
    assert table_for(Toy(), None, toy := toy_table(), "all") is toy
