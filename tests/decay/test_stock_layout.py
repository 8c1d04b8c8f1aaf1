from __future__ import annotations

import copy

import pytest
import torch

from gamma_nlp.decay.stock_layout import in_layout
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, train
from tests.support.two_groups import TWO_GROUPS, build, state_by_name, stock


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
