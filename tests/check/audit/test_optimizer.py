"""The audit of an optimizer finds what is decayed or spared by accident."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import audit, categorize
from gamma_nlp.check.audit.optimizer import ALL, EMBEDDINGS
from gamma_nlp.errors import GammaError
from tests.support.audited import IDS, AdamW, Network, OnePlus, act, names, network


def split(model: nn.Module, *words: str, decay: float = 0.1) -> list[dict[str, Any]]:
    """Groups by words in names, as they stand in many training scripts."""
    named = list(model.named_parameters())
    spared = [p for name, p in named if any(word in name for word in words)]
    return [
        {
            "params": [p for n, p in named if not any(word in n for word in words)],
            "weight_decay": decay,
        },
        {"params": spared, "weight_decay": 0.0},
    ]


def test_an_optimizer_that_is_right_has_no_accident() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(split(model, "bias", "norm", "last"), lr=1e-3))
    assert found.accidents == ()
    assert (found.decayed, found.spared, found.groups) == (6, 10, 2)
    assert act(found, "gain, head").coefficient == (0.0, 0.0)
    weights = act(found, "weight")
    assert (weights.coefficient, weights.modes, weights.toward) == (
        (0.1, 0.1),
        ("decoupled",),
        ("0",),
    )
    assert weights.step == pytest.approx((1e-4, 1e-4))
    assert str(found).endswith("accidents: none")


def test_names_that_miss_the_norms_decay_them_by_accident() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(split(model, "bias", "LayerNorm.weight"), lr=1e-3))
    assert names(found.accidents) == ["last.weight"]
    assert found.accidents[0].why == "weight_decay is 0.1 in group 0"
    assert names(found.decayed_as_under_guidelines) == [
        "blocks.0.norm.weight",
        "blocks.1.norm.weight",
    ]


def test_an_optimizer_that_decays_everything_does_as_some_authors_do() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    assert found.accidents == ()
    assert {one.why for one in found.decayed_as_by_some_authors} == {ALL}


def test_an_empty_group_without_decay_shows_that_sparing_was_meant() -> None:
    model, table = network()
    groups = [{"params": list(model.parameters())}, {"params": [], "weight_decay": 0.0}]
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3, weight_decay=0.1))
    assert "last.weight" in names(found.accidents)
    assert found.more_groups == (
        "group 1, weight_decay 0: no parameter, so what it was made for matched nothing",
    )


def test_without_any_decay_nothing_is_spared_by_accident_and_the_audit_says_so() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.0))
    assert found.accidents == ()
    assert found.notes == ("nothing decays: weight_decay is 0 in its group",)


def test_a_weight_that_alone_is_spared_is_an_accident_and_embeddings_are_not() -> None:
    model, table = network()
    groups = split(model, "bias", "norm", "last", "up", "embed", "lm_head")
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3))
    assert names(found.accidents) == ["blocks.0.up.weight", "blocks.1.up.weight"]
    spared = {one.name: one.why for one in found.spared_as_by_some_authors}
    assert spared == dict.fromkeys(("embed.weight", "lm_head.weight"), EMBEDDINGS)


def test_a_parameter_that_came_later_is_missing() -> None:
    model, table = network()
    kept = [p for name, p in model.named_parameters() if not name.startswith("last")]
    found = audit(model, table, optimizer=AdamW(kept, lr=1e-3))
    assert names(found.missing) == ["last.weight", "last.bias"]
    assert names(found.accidents)[:2] == ["last.weight", "last.bias"]
    assert [one.what for one in found.missing] == ["gain, head", "shift"]


def test_a_tied_parameter_counts_once() -> None:
    model, table = network(tied=True)
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3))
    assert (found.missing, found.twice, found.decayed) == ((), (), 15)


def test_a_parameter_in_two_optimizers_or_groups_is_twice_there() -> None:
    model, table = network()
    whole = AdamW(model.parameters(), lr=1e-3)
    head = torch.optim.SGD(model.last.parameters(), lr=0.1)
    found = audit(model, table, optimizer=[whole, head])
    assert {one.name: one.why for one in found.twice} == dict.fromkeys(
        ("last.weight", "last.bias"), "in AdamW, group 0 and in SGD, group 0"
    )
    whole.param_groups.append({**whole.param_groups[0], "params": [model.embed.weight]})
    found = audit(model, table, optimizer=whole)
    assert [(one.name, one.why) for one in found.twice] == [
        ("embed.weight", "in group 0 and in group 1")
    ]


def test_a_frozen_parameter_is_skipped_unless_its_gradient_is_still_there() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model(IDS).sum().backward()
    model.last.requires_grad_(False)
    model.last.bias.grad = None
    found = audit(model, table, optimizer=optimizer)
    assert (names(found.frozen), names(found.moving)) == (["last.bias"], ["last.weight"])
    assert names(found.accidents)[0] == "last.weight"
    assert "zero_grad(set_to_none=True)" in found.moving[0].why


def test_tensors_of_a_copy_are_foreign_and_the_model_s_own_are_missing() -> None:
    model, table = network()
    before = copy.deepcopy(model)
    found = audit(model, table, optimizer=AdamW(before.named_parameters(), lr=1e-3))
    assert len(found.foreign) == len(found.missing) == 16
    assert found.foreign[0].name == "embed.weight"
    assert "a copy of 'embed.weight'" in found.foreign[0].why
    assert len(found.accidents) == 32


def test_a_table_that_was_resized_after_the_optimizer_was_made_is_named() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model.embed = nn.Embedding(9, 4)
    found = audit(model, table, optimizer=optimizer)
    assert names(found.missing) == ["embed.weight"]
    (foreign,) = found.foreign
    assert foreign.name == "group 0, number 0"
    assert foreign.why.startswith("7x4, float32; has the shape, but for its length, of 'embed.wei")


def test_of_another_model_s_tensors_the_first_are_shown_and_all_are_data() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(copy.deepcopy(model).parameters(), lr=1e-3))
    assert len(found.foreign) == 16
    assert "foreign: not of this model, 16, of which: 8" in str(found)
    assert "and 8 more" in str(found) and "group 0, number 9" not in str(found)


def test_an_average_of_the_model_is_not_what_is_trained() -> None:
    model, table = network()
    average = torch.optim.swa_utils.AveragedModel(model)
    with pytest.raises(GammaError, match="takes the model that is trained; an AveragedModel"):
        audit(average, table, optimizer=AdamW(model.parameters()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight_decay", -0.1),
        ("weight_decay", float("nan")),
        ("weight_decay", "0.1"),
        ("lr", torch.tensor(float("inf"))),
    ],
)
def test_settings_that_no_step_can_use_are_named(key: str, value: Any) -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    optimizer.param_groups[0][key] = value
    with pytest.raises(GammaError, match=f"group 0 has {key}=.*expected a number of 0 or more"):
        audit(model, table, optimizer=optimizer)


def test_an_optimizer_without_weight_decay_and_a_frozen_model_are_told() -> None:
    model, table = network()
    found = audit(model, table, optimizer=torch.optim.LBFGS(model.parameters()))
    assert found.notes == ("nothing decays: LBFGS has no weight decay",)
    found = audit(model.requires_grad_(False), table, optimizer=AdamW(model.parameters()))
    assert found.notes == ("nothing is trained: every parameter of the model is frozen",)


def test_a_tensor_of_a_loss_is_foreign_until_it_is_audited_too() -> None:
    model, table = network()
    loss = nn.Linear(3, 3, bias=False)
    optimizer = AdamW([*model.parameters(), *loss.parameters()], lr=1e-3)
    (foreign,) = audit(model, table, optimizer=optimizer).foreign
    assert "nn.ModuleList([model, loss])" in foreign.why


def test_groups_that_could_be_one_and_rates_that_differ_are_told() -> None:
    model, table = network()
    groups = [{"params": [p], "weight_decay": 0.1} for p in model.parameters()]
    groups[0]["lr"] = 0.5
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3))
    assert found.groups == 16
    assert found.more_groups == (
        "group 1; group 2; group 3; group 4 and 11 more: equal settings, so these 15 could be one",
    )
    assert found.rates == (
        "0.5: group 0 (1 tensor)",
        "0.001: group 1; group 2; group 3; group 4 and 11 more (15 tensors)",
    )


def test_of_many_rates_the_largest_are_shown() -> None:
    model, table = network()
    groups = [{"params": [p], "lr": 2.0**-i} for i, p in enumerate(model.parameters())]
    found = audit(model, table, optimizer=AdamW(groups[::-1], lr=1e-3))
    assert found.rates[0] == "1: group 15 (1 tensor)"
    assert found.rates[6:] == ("and 10 more, down to 3.05176e-05",)


def test_a_model_on_the_meta_device_is_audited_as_any_other() -> None:
    with torch.device("meta"):
        model = Network()
    table = categorize(Network(), IDS)
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    assert (found.decayed, found.accidents) == (16, ())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_fits_a_table_from_before(wrap: Any) -> None:
    model, table = network()
    found = audit(wrap(model), table, optimizer=AdamW(split(model, "bias", "norm"), lr=1e-3))
    assert names(found.accidents) == [
        name for name, _ in wrap(model).named_parameters() if name.endswith("last.weight")
    ]
    assert audit(wrap(model), table, rule="torchtitan").decayed == 16


def test_the_audit_is_plain_data_and_leaves_model_and_optimizer_alone() -> None:
    model, table = network()
    optimizer = AdamW(split(model, "bias"), lr=1e-3)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    data = audit(model, table, optimizer=optimizer).to_json()
    assert json.loads(json.dumps(data)) == data
    assert data["accidents"] == ["last.weight"]
    assert str(before) == str((model.state_dict(), optimizer.state_dict()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (AdamW, "not its class, got AdamW"),
        ([], "got an empty list"),
        ([None], "got a NoneType"),
        ("adamw", "got a str"),
        (nn.Linear(2, 2), "got a Linear"),
        (
            torch.optim.lr_scheduler.ConstantLR(AdamW([nn.Parameter(torch.ones(1))])),
            "got a ConstantLR; pass its .optimizer",
        ),
    ],
)
def test_what_is_no_optimizer_is_named(given: Any, message: str) -> None:
    model, table = network()
    with pytest.raises(GammaError, match=r"takes a torch\.optim\.Optimizer") as error:
        audit(model, table, optimizer=given)
    assert message in str(error.value)


def test_a_rule_beside_an_optimizer_a_table_of_another_model_and_no_model_are_errors() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters())
    with pytest.raises(GammaError, match="rule='timm' has no effect beside optimizer="):
        audit(model, table, optimizer=optimizer, rule="timm")
    with pytest.raises(GammaError, match="'gain' is not in the gain table, which is of another"):
        audit(OnePlus(), table, rule="torchtitan")
    with pytest.raises(GammaError, match=r"audit takes a torch.nn.Module, not a AdamW"):
        audit(optimizer, table)  # type: ignore[call-overload]
