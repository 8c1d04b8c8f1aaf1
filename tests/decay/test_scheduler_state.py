from __future__ import annotations

import pytest
import torch

from gamma_nlp.decay.saved_state import load_regrouped
from gamma_nlp.decay.scheduler_state import fit_scheduler_state
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, train
from tests.support.two_groups import TWO_GROUPS, build, stock


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
