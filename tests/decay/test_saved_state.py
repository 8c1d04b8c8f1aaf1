from __future__ import annotations

import copy

import pytest
import torch

from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.saved_state import (
    fit_scheduler_state,
    in_layout,
    load_regrouped,
    regroup_state_dict,
)
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, assert_equal, toy_table, train

TWO_GROUPS = [
    ["embed", "w", "mix", "inner"],
    ["inner_shift", "w_bias", "last", "trunk", "final"],
]


def build(model: Toy, policy: str = "guidelines", **kwargs) -> torch.optim.Optimizer:
    kwargs = {"lr": 0.05, "weight_decay": 0.2, **kwargs}
    return make_optimizer(torch.optim.AdamW, model, policy=policy, table=toy_table(), **kwargs)


def stock(model: Toy, lr: float = 0.05) -> torch.optim.Optimizer:
    """As the stock Trainer makes it: two groups, no names."""
    groups = [
        {"params": [model.get_parameter(name) for name in names], "weight_decay": decay}
        for names, decay in zip(TWO_GROUPS, (0.2, 0.0), strict=True)
    ]
    return torch.optim.AdamW(groups, lr=lr)


def state_by_name(optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    return {
        name: optimizer.state[p]
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }


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


def test_scheduler_state_gets_one_entry_per_present_group() -> None:
    model = Toy()
    old = stock(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(old, lambda step: 1 / (1 + step))
    train(model, old, 1)
    scheduler.step()
    new = build(Toy(), "guidelines")
    assert len(new.param_groups) == 3
    fresh = torch.optim.lr_scheduler.LambdaLR(new, lambda step: 1 / (1 + step))
    load_regrouped(new, old.state_dict(), TWO_GROUPS)
    fresh.load_state_dict(fit_scheduler_state(scheduler.state_dict(), new))
    new.step()
    fresh.step()
    assert [g["lr"] for g in new.param_groups] == pytest.approx([0.05 / 3] * 3)
    assert fresh.base_lrs == [0.05] * 3


def test_nested_scheduler_states_are_fitted_too() -> None:
    old, new = stock(Toy()), build(Toy())

    def chain(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        parts = [torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5, 2) for _ in range(2)]
        return torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])

    fitted = fit_scheduler_state(chain(old).state_dict(), new)
    assert [len(one["base_lrs"]) for one in fitted["_schedulers"]] == [3, 3]
    chain(new).load_state_dict(fitted)


def test_scheduler_with_different_rates_needs_names() -> None:
    old = stock(Toy())
    old.param_groups[1]["lr"] = 0.01
    state = torch.optim.lr_scheduler.StepLR(old, 1).state_dict()
    with pytest.raises(GammaError, match=r"2 groups with different base_lrs.*3 groups"):
        fit_scheduler_state(state, build(Toy()))
    by_place = [["embed", "w", "inner", "last"], ["inner_shift", "w_bias", "trunk", "final", "mix"]]
    fitted = fit_scheduler_state(state, build(Toy()), by_place)
    assert fitted["base_lrs"] == [0.05, 0.01, 0.05]
    with pytest.raises(GammaError, match="do not hold 'last'"):
        fit_scheduler_state(state, build(Toy()), [by_place[0][:3], by_place[1]])


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


def test_a_state_in_the_layout_of_another_optimizer_loads_there_and_here() -> None:
    model, other, again = Toy(), Toy(), Toy()
    old = build(model)
    train(model, old, 3)
    fitted = in_layout(old.state_dict(), TWO_GROUPS, (0.7, 0.0))
    plain = stock(other)
    plain.load_state_dict(copy.deepcopy(fitted))
    assert [group["weight_decay"] for group in plain.param_groups] == [0.7, 0.0]
    assert not any(key.startswith("gamma") for group in plain.param_groups for key in group)
    here = build(again)
    here.load_state_dict(copy.deepcopy(fitted))
    for name, state in state_by_name(old).items():
        assert torch.equal(plain.state[other.get_parameter(name)]["exp_avg"], state["exp_avg"])
        assert torch.equal(here.state[again.get_parameter(name)]["exp_avg"], state["exp_avg"])
    assert here.state_dict()["param_groups"] == build(Toy()).state_dict()["param_groups"]
    with pytest.raises(GammaError, match="it trains other parameters: 'inner'"):
        in_layout(old.state_dict(), [TWO_GROUPS[0][:-1], TWO_GROUPS[1]], (0.7, 0.0))
