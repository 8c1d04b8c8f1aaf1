"""Sources, their agreement, and the models that make it hard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification
from transformers.models.bert.modeling_bert import BertSelfOutput

from gamma_nlp import Category, GammaError, Role, categorize
from gamma_nlp.gains.roles import static_roles
from tests.support.families import FAMILIES


def categories(table: object) -> dict[str, str]:
    return {gain.name: str(gain.category) for gain in table}  # type: ignore[attr-defined]


def test_table_is_not_trusted_where_a_subclass_moved_the_norm() -> None:
    class PreNormOutput(BertSelfOutput):
        def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
            return self.LayerNorm(self.dense(hidden_states)) + input_tensor

    model = FAMILIES["bert_cls"].build()
    for layer in model.bert.encoder.layer:
        layer.attention.output.__class__ = PreNormOutput
    table = categorize(model)
    moved = "bert.encoder.layer.0.attention.output.LayerNorm.weight"
    assert table[moved].category is Category.BRANCH_LAST
    assert table[moved].source == "graph"
    with pytest.raises(GammaError, match=r"class of module .* is not the library's own"):
        categorize(model, method="table")


def test_table_is_not_trusted_where_it_does_not_know_a_norm() -> None:
    model = FAMILIES["llama"].build()
    model.model.layers[0].self_attn.o_proj = nn.Sequential(
        nn.LayerNorm(model.config.hidden_size), model.model.layers[0].self_attn.o_proj
    )
    assert {gain.source for gain in categorize(model)} == {"graph"}
    with pytest.raises(GammaError, match=r"does not know 'model.layers.0.self_attn.o_proj.0"):
        categorize(model, method="table")


def test_disagreement_of_the_sources_names_the_gain() -> None:
    model = FAMILIES["bert_cls"].build()

    def moved(hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        output = model.bert.encoder.layer[0].output
        return output.LayerNorm(output.dense(hidden_states)) + input_tensor

    model.bert.encoder.layer[0].output.forward = moved  # no class to tell it by
    with pytest.raises(GammaError, match=r"disagree on 'bert.encoder.layer.0.output.LayerNorm"):
        categorize(model, FAMILIES["bert_cls"].inputs())


def test_a_config_field_that_moves_norms_decides_the_table() -> None:
    pre, post = FAMILIES["opt"].build(), FAMILIES["opt_post_norm"].build()
    name = "model.decoder.layers.0.self_attn_layer_norm.weight"
    assert categorize(pre, method="table")[name].category is Category.BRANCH_INNER
    assert categorize(post, method="table")[name].category is Category.SHORTCUT
    vars(pre.config)["do_layer_norm_before"] = "sometimes"  # a value that no table is for
    with pytest.raises(GammaError, match="no name table holds for OPTForCausalLM"):
        categorize(pre, method="table")


def test_unknown_method_is_refused() -> None:
    with pytest.raises(GammaError, match="method='names': expected"):
        categorize(nn.Linear(2, 2), method="names")  # type: ignore[arg-type]


def test_tied_and_frozen_parameters_are_listed_once_under_their_first_name() -> None:
    model = FAMILIES["bert_mlm"].build()
    model.requires_grad_(False)
    table = categorize(model)
    names = [name for name, _ in model.named_parameters()]
    assert sorted([*categories(table), *table.roles]) == sorted(names)
    assert table.roles["bert.embeddings.word_embeddings.weight"] is Role.EMBEDDING


def test_low_rank_adapters_leave_the_places_alone() -> None:
    import peft

    model = FAMILIES["llama_cls"].build()
    before = categorize(model)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "down_proj"])
    wrapped = peft.get_peft_model(model, config)
    for method in ("table", "graph"):
        table = categorize(wrapped, method=method)
        assert categories(table) == {
            f"base_model.model.{name}": place for name, place in categories(before).items()
        }
        assert {str(table.roles[n]) for n in table.roles if ".lora_" in n} == {"weight"}


def test_norms_trained_beside_adapters_keep_their_place() -> None:
    import peft

    model = FAMILIES["gpt2"].build()
    config = peft.LoraConfig(
        target_modules=["c_attn"], modules_to_save=["ln_f"], fan_in_fan_out=True
    )
    wrapped = peft.get_peft_model(model, config)
    saved = "base_model.model.transformer.ln_f.modules_to_save.default.weight"
    assert categorize(wrapped, method="table")[saved].category is Category.HEAD
    assert categorize(wrapped, method="graph")[saved].category is Category.HEAD
    categorize(wrapped, FAMILIES["gpt2"].inputs())  # the frozen original is not a disagreement


def test_gain_that_is_never_reached_is_listed_as_unused_with_a_warning() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.idle = nn.Linear(4, 4), nn.LayerNorm(4), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x + self.a(x))

    with pytest.warns(UserWarning, match=r"1 gain is never reached.*idle.weight"):
        table = categorize(Idle(), torch.randn(2, 4))
    assert table["idle.weight"].category is None
    assert table["norm.weight"].category is Category.HEAD


def test_gain_used_in_a_way_that_no_rule_covers_is_an_error_that_names_it() -> None:
    class OddNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x / x.norm(dim=-1, keepdim=True) * torch.exp(self.weight)

    with pytest.raises(GammaError, match=r"'1.weight' belongs to a norm.*neither source"):
        categorize(nn.Sequential(nn.Linear(4, 4), OddNorm()), torch.randn(2, 4))


def test_roles_follow_what_parameters_do() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.lin = nn.LayerNorm(4), nn.Linear(4, 4)
            self.slope = nn.PReLU()
            self.decay = nn.Parameter(torch.ones(4, 4))  # a matrix that is never contracted
            self.table = nn.Parameter(torch.randn(5, 4))

        def forward(self, ids: Tensor) -> Tensor:
            x = self.table[ids]
            return x + self.slope(self.lin(self.norm(x))) * torch.exp(self.decay).sum()

    table = categorize(Odd(), torch.tensor([[0, 1, 2]]))
    assert {name: str(role) for name, role in table.roles.items()} == {
        "decay": "other", "table": "embedding", "norm.bias": "shift", "lin.weight": "weight",
        "lin.bias": "bias", "slope.weight": "other",
    }  # fmt: skip


def test_bias_is_one_whatever_its_shape_and_whatever_its_owner_is_called() -> None:
    class NormHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.bias = nn.Linear(4, 4, bias=False), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.dense(x) + self.bias

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(4, 4, bias=False)
            self.up_bias = nn.Parameter(torch.ones(3, 4))
            self.head = NormHead()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + torch.relu(self.up(x) + self.up_bias[torch.tensor([0, 2])]))

    model = Experts()
    for roles in (static_roles(model), categorize(model, torch.randn(2, 4)).roles):
        assert str(roles["up_bias"]) == str(roles["head.bias"]) == "bias"
        assert str(roles["up.weight"]) == "weight"


def test_what_a_model_leaves_out_of_its_parameters_is_no_part_of_the_table() -> None:
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)
            self.teacher = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

        def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
            named = super().named_parameters(*args, **kwargs)
            return (pair for pair in named if not pair[0].startswith("teacher."))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.linear(self.norm(x))

    table = categorize(Student(), torch.randn(2, 4))
    assert categories(table) == {"norm.weight": "branch_inner"}
    assert sorted(table.roles) == ["linear.bias", "linear.weight", "norm.bias"]


def test_table_prints_and_serialises() -> None:
    table = categorize(FAMILIES["gemma2"].build())
    text = str(table)
    assert "post_attention_layernorm" in text
    assert "branch_last" in text
    data = json.loads(table.to_json())
    assert len(data["gains"]) == len(table)
    assert {row["offset"] for row in data["gains"]} == {1}
    with pytest.raises(KeyError, match="not a gain of this table"):
        table["lm_head.weight"]


def test_distributed_wrapper_keeps_names_and_table(tmp_path: object) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(FAMILIES["bert_cls"].build())
        for method in ("table", "graph"):
            table = categorize(wrapped, method=method)
            assert all(gain.name.startswith("module.bert.") for gain in table)
    finally:
        torch.distributed.destroy_process_group()


def test_meta_model_is_placed_by_table_and_by_graph() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(FAMILIES["bert_cls"].build().config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert categories(categorize(model, method="table")) == categories(
            categorize(model, method="graph")
        )


def test_examples_climb_from_a_plain_model_over_a_printed_table_to_a_policy() -> None:
    text = categorize.__doc__ or ""
    steps = ("nn.Sequential(nn.Linear", "class Block", "print(table)", "policy=")
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
