"""Parameters added to an optimizer after it was made."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp.errors import GammaError
from tests.support.decay_runs import build, run
from tests.support.optim_models import Toy, assert_equal, train


def thawed(policy: Any = "guidelines", **kwargs: Any) -> tuple[Toy, torch.optim.Optimizer]:
    """An optimizer made while two gains and a shift were frozen."""
    model = Toy()
    later = (model.inner, model.last, model.inner_shift)
    for p in later:
        p.requires_grad_(False)
    optimizer = build(model, policy, rates=None, **kwargs)
    for p in later:
        p.requires_grad_(True)
    return model, optimizer


def test_added_parameters_of_the_model_get_the_decay_of_the_policy() -> None:
    model, optimizer = thawed()
    assert not optimizer._optimizer_step_pre_hooks
    optimizer.add_param_group(
        {"params": [model.inner_shift, model.last, model.inner], "lr": 0.5, "betas": (0.5, 0.9)}
    )
    found = {name: group for group in optimizer.param_groups for name in group["param_names"]}
    decay = {n: (found[n]["weight_decay"], found[n].get("gamma_center")) for n in found}
    assert decay["inner"] == (0.2, None) and decay["inner_shift"] == (0.0, None)
    assert decay["last"] == (0.2, -1.0)
    for name in ("inner", "last", "inner_shift"):
        assert (found[name]["lr"], found[name]["betas"]) == (0.5, (0.5, 0.9))
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    whole = Toy()
    fresh = build(whole, "guidelines", rates=None)
    for group in optimizer.param_groups:
        group.update(lr=0.02, betas=(0.9, 0.999))
    train(model, optimizer, 5)
    train(whole, fresh, 5)
    assert_equal(model, whole)
    fresh.load_state_dict(optimizer.state_dict())


def test_one_tensor_or_named_ones_can_be_added() -> None:
    model, optimizer = thawed()
    optimizer.add_param_group({"params": model.inner})
    optimizer.add_param_group({"params": [("last", model.last)]})
    assert [g["param_names"] for g in optimizer.param_groups[-2:]] == [["inner"], ["last"]]


def test_parameters_that_the_policy_does_not_know_need_a_weight_decay() -> None:
    model, optimizer = thawed()
    before = len(optimizer.param_groups)
    new = nn.Parameter(torch.ones(3))
    with pytest.raises(GammaError, match=r"'added' \(of shape \(3,\)\).*'weight_decay': 0.0}"):
        optimizer.add_param_group({"params": [model.inner, new]})
    assert len(optimizer.param_groups) == before
    optimizer.add_param_group({"params": [new], "weight_decay": 0.7})
    optimizer.add_param_group({"params": nn.Parameter(torch.ones(2)), "weight_decay": 0.0})
    optimizer.add_param_group({"params": [model.inner], "weight_decay": 0.3})
    added = [(g["param_names"], g["weight_decay"]) for g in optimizer.param_groups[before:]]
    assert added == [(["added"], 0.7), (["added.0"], 0.0), (["inner"], 0.3)]
    optimizer.load_state_dict(optimizer.state_dict())
    duplicate = copy.deepcopy(optimizer)
    with pytest.raises(GammaError, match="the decay policy does not know 'added"):
        duplicate.add_param_group({"params": [nn.Parameter(torch.ones(3))]})


def test_a_replaced_layer_can_be_added_under_its_old_name() -> None:
    model = Toy()
    optimizer = build(model, "guidelines", rates=None)
    model.inner = nn.Parameter(torch.ones(4))
    optimizer.add_param_group({"params": [model.inner]})
    last = optimizer.param_groups[-1]
    assert (last["param_names"], last["weight_decay"]) == (["inner.0"], 0.2)


def test_added_parameters_come_in_where_the_run_is() -> None:
    """The clock of a ramp and of the last step is that of the run, not of the group."""
    model = Toy(torch.bfloat16)
    model.final.requires_grad_(False)
    optimizer = build(model)
    run(model, optimizer, 0, 7)
    model.final.requires_grad_(True)
    optimizer.add_param_group({"params": [model.final]})
    group = optimizer.param_groups[-1]
    assert (group["gamma_schedule"], group["gamma_step"], group["gamma_calls"]) == ("cosine", 7, 7)


def test_copies_ask_for_the_decay_of_whatever_is_added() -> None:
    _, optimizer = thawed()
    model, duplicate = copy.deepcopy((Toy(), optimizer))
    with pytest.raises(GammaError, match="the decay policy does not know 'inner'"):
        duplicate.add_param_group({"params": [("inner", model.inner)]})
