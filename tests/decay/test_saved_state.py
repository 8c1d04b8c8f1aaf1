from __future__ import annotations

import copy

import pytest
import torch

from gamma_nlp.decay.saved_state import load_regrouped, regroup_state_dict
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, assert_equal, train
from tests.support.two_groups import TWO_GROUPS, build, state_by_name, stock


@pytest.mark.parametrize(("old", "new"), [("all", "none"), ("none", "guidelines")])
def test_state_follows_the_parameter_across_policies(old: str, new: str) -> None:
    model, other = Toy(), Toy()
    first, second = build(model, old, lr=0.3, betas=(0.8, 0.9)), build(other, new)
    train(model, first, 3)
    second.load_state_dict(first.state_dict())
    assert state_by_name(first).keys() == state_by_name(second).keys()
    for name, state in state_by_name(second).items():
        for key, value in state_by_name(first)[name].items():
            assert torch.equal(value, state[key]), (name, key)
    assert {(g["lr"], g["betas"]) for g in second.param_groups} == {(0.3, (0.8, 0.9))}
    fresh = build(Toy(), new)
    for key in ("weight_decay", "gamma_part", "gamma_center", "param_names"):
        assert [g.get(key) for g in second.param_groups] == [g.get(key) for g in fresh.param_groups]


def test_resuming_under_another_policy_equals_switching_the_policy_midway() -> None:
    model, other = Toy(), Toy()
    first = build(model, "all")
    train(model, first, 3)
    other.load_state_dict(model.state_dict())
    second = build(other, "none")
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # torch would share the moments
    for group in first.param_groups:
        group["weight_decay"] = 0.0
    for group in second.param_groups:
        group["weight_decay"] = 0.0
    train(model, first, 3, 3)
    train(other, second, 3, 3)
    assert_equal(model, other)


def test_stock_checkpoint_with_two_groups_resumes() -> None:
    model, other = Toy(), Toy()
    old = stock(model)
    train(model, old, 3)
    other.load_state_dict(model.state_dict())
    new = build(other, "none")
    load_regrouped(new, old.state_dict(), TWO_GROUPS)
    for name, state in state_by_name(new).items():
        assert torch.equal(state["exp_avg"], old.state[model.get_parameter(name)]["exp_avg"])
    train(other, new, 1, 3)


def test_checkpoint_before_the_first_step_loads() -> None:
    new = build(Toy())
    load_regrouped(new, stock(Toy()).state_dict(), TWO_GROUPS)
    assert not new.state


def test_regroup_changes_nothing_in_place() -> None:
    model = Toy()
    old = build(model, "all")
    train(model, old, 1)
    saved = old.state_dict()
    before = copy.deepcopy(saved["param_groups"])
    new = build(Toy(), "none")
    fitted = regroup_state_dict(saved, [g["param_names"] for g in saved["param_groups"]], new)
    assert saved["param_groups"] == before and not new.state
    assert [len(g["params"]) for g in fitted["param_groups"]] == [2, 7]


def damaged(kind: str, names: list[list[str]]) -> list[list[str]]:
    names = copy.deepcopy(names)
    if kind == "unknown":
        names[0][0] = "other.embed"
    elif kind == "twice":
        names[0][0] = names[0][1]
    else:
        names[0].pop()
    return names


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown", r"holds no 'embed', which the optimizer trains and holds 'other.embed', which"),
        ("twice", "parameter 'w' appears twice"),
        ("short", r"groups of \[4, 5\] parameters, but names were given for groups of \[3, 5\]"),
    ],
)
def test_names_that_do_not_fit_are_named_and_nothing_is_loaded(kind: str, message: str) -> None:
    model, other = Toy(), Toy()
    old = stock(model, lr=0.7)
    train(model, old, 1)
    new = build(other)
    before = copy.deepcopy(new.state_dict())
    with pytest.raises(GammaError, match=message):
        load_regrouped(new, old.state_dict(), damaged(kind, TWO_GROUPS))
    assert str(new.state_dict()) == str(before)


def test_groups_with_different_rates_cannot_be_merged_silently() -> None:
    model = Toy()
    old = stock(model)
    old.param_groups[1]["lr"] = 0.01
    new = build(Toy(), "none")
    with pytest.raises(GammaError, match=r"saved groups \[0, 1\] have different lr"):
        load_regrouped(new, old.state_dict(), TWO_GROUPS)


def test_state_that_belongs_to_no_parameter_is_kept() -> None:
    model = Toy()
    old = stock(model)
    train(model, old, 1)
    saved = old.state_dict()
    saved["state"]["calls"] = 7
    fitted = regroup_state_dict(saved, TWO_GROUPS, build(Toy()))
    assert fitted["state"]["calls"] == 7 and len(fitted["state"]) == 10


def test_present_groups_take_rates_and_not_the_decay_of_saved_ones() -> None:
    old, new = build(Toy(), "all", lr=0.3, weight_decay=0.7), build(Toy())
    names = [group["param_names"] for group in old.param_groups]
    before = copy.deepcopy(new.state_dict()["param_groups"])
    fitted = regroup_state_dict(old.state_dict(), names, new)
    assert {group["lr"] for group in fitted["param_groups"]} == {0.3}
    assert {group["weight_decay"] for group in fitted["param_groups"]} == {0.0, 0.2}
    assert new.state_dict()["param_groups"] == before
