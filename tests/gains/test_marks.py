"""What authors mark as not to be decayed gets the role ``other``, and the table says why."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import DecayPolicy, GammaError, categorize, param_groups
from gamma_nlp.gains.marks import MARKED
from gamma_nlp.gains.table import gain_table
from tests.support.structures import D, Net, linear, mlp, norm, signal


class Vision(nn.Module):
    """Positions and a block, marked as timm and Swin do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.pos_embed = linear(), nn.Parameter(torch.randn(1, 5, D))
        self.pre, self.body, self.last, self.head = norm(), mlp(), norm(), linear()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.pos_embed
        return self.head(self.last(x + self.body(self.pre(x))))


class ByName(Vision):
    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}  # the second is not there: nothing to say


class ByKeyword(Vision):
    def no_weight_decay_keywords(self) -> set[str]:
        return {"embed"}


class Rate(nn.Module):
    """A matrix contracted with the signal, marked on the parameter itself."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.rate, self.other = (nn.Parameter(torch.randn(D, D)) for _ in range(2))
        for name, value in attributes.items():
            setattr(self.rate, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x @ self.rate @ self.other, (D,))


def test_what_a_method_names_is_other_and_the_table_says_why() -> None:
    table = categorize(ByName(), signal())
    assert str(table.roles["pos_embed"]) == "other"
    assert table.reasons["pos_embed"] == f"{MARKED} (no_weight_decay of ByName, 1 of 13 parameters)"
    assert str(table.roles["embed.weight"]) == "weight"
    assert str(categorize(Vision(), signal()).roles["pos_embed"]) == "embedding"


def test_a_keyword_is_part_of_a_name() -> None:
    table = categorize(ByKeyword(), signal())
    marked = {name: str(table.roles[name]) for name in table.reasons}
    assert marked == {"pos_embed": "other", "embed.weight": "other"}
    assert str(table.roles["embed.bias"]) == "bias"  # spared as it is


@pytest.mark.parametrize(
    "attributes",
    [
        {"_no_weight_decay": True},
        {"no_weight_decay": True},
        {"_optim": {"lr": 1e-3, "weight_decay": 0.0}},
        {"optim_overrides": {"optimizer": {"weight_decay_scale": 0}}},
    ],
)
def test_a_mark_on_the_parameter_counts(attributes: dict[str, object]) -> None:
    table = categorize(Rate(**attributes), signal())
    assert {name: str(role) for name, role in table.roles.items()} == {
        "rate": "other",
        "other": "weight",
    }
    assert next(iter(attributes)) in table.reasons["rate"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"_no_weight_decay": False},
        {"_optim": {"lr": 1e-3}},
        {"_optim": {"weight_decay": 0.1}},
        {"_optim": None},
        {"optim_overrides": {}},
    ],
)
def test_a_mark_that_says_nothing_of_decay_changes_nothing(attributes: dict[str, object]) -> None:
    table = categorize(Rate(**attributes), signal())
    assert str(table.roles["rate"]) == "weight"
    assert not table.reasons


def test_a_mark_is_found_in_a_part_of_a_wrapped_model() -> None:
    inner = nn.Sequential(nn.Linear(D, D), ByName())
    table = categorize(nn.DataParallel(inner), signal())
    assert str(table.roles["module.1.pos_embed"]) == "other"


def test_a_marked_gain_keeps_its_category_and_says_that_it_is_marked() -> None:
    class All(Vision):
        def no_weight_decay(self) -> list[str]:
            return [name for name, p in self.named_parameters() if p.ndim == 1]

    plain, marked = categorize(Vision(), signal()), categorize(All(), signal())
    assert [g.category for g in plain] == [g.category for g in marked]
    assert all(MARKED in gain.reason for gain in marked)
    assert plain.roles == marked.roles


def test_a_policy_may_decay_a_marked_parameter_by_name() -> None:
    model = ByName()
    for patterns, decayed in (({}, False), ({"pos_embed": 1.0}, True)):
        policy = DecayPolicy(name="own", patterns=patterns)
        groups = param_groups(model, weight_decay=0.1, policy=policy, inputs=signal())
        found = {name for g in groups if g["weight_decay"] for name in g["param_names"]}
        assert ("pos_embed" in found) is decayed
        assert "embed.weight" in found


def test_marks_that_spare_most_of_a_model_are_said_aloud() -> None:
    class Careless(Vision):
        def no_weight_decay_keywords(self) -> set[str]:
            return {"weight"}

    with pytest.warns(UserWarning, match=r"4 of 4.*no_weight_decay_keywords of Careless"):
        table = categorize(Careless(), signal())
    assert str(table.roles["head.weight"]) == "other"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        categorize(ByName(), signal())


def test_a_method_that_fails_is_an_error_that_names_it() -> None:
    class Broken(Vision):
        def no_weight_decay(self) -> set[str]:
            raise AttributeError("no pos_embed")

    with pytest.raises(GammaError, match=r"Broken\.no_weight_decay\(\) fails: .*no pos_embed"):
        categorize(Broken(), signal())


def test_an_empty_keyword_names_nothing() -> None:
    class Empty(Vision):
        def no_weight_decay_keywords(self) -> set[str]:
            return {""}

    assert str(categorize(Empty(), signal()).roles["embed.weight"]) == "weight"


def test_reasons_are_in_the_full_text_and_in_json() -> None:
    table = categorize(ByName(), signal())
    assert "pos_embed" not in gain_table(table)
    assert f"pos_embed  1  other  {MARKED}" in gain_table(table, full=True)
    assert json.loads(table.to_json())["reasons"] == dict(table.reasons)


def test_a_name_table_knows_marks_too() -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
    model = BertModel(BertConfig(num_hidden_layers=1, **sizes))
    model.embeddings.position_embeddings.weight._no_weight_decay = True
    name = "embeddings.position_embeddings.weight"
    assert str(categorize(model, method="table").roles[name]) == "other"


def test_a_marked_mixer_of_a_state_space_net_does_not_decay() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.out(m.n(x @ m.rate.rate))

    net = Net(forward, rate=Rate(_no_weight_decay=True), n=norm(), out=linear())
    groups = param_groups(net, weight_decay=0.1, inputs=signal())
    assert "rate.rate" not in {n for g in groups if g["weight_decay"] for n in g["param_names"]}
