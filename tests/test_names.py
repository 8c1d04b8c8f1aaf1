"""Old names work for one release, and say what they are called now."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gamma_nlp import categorize, make_optimizer, param_groups
from gamma_nlp.companions.strong.regularizer import StrongRegularizer

X = torch.randn(3, 4)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def test_inputs_by_their_old_name_warn_at_the_line_of_the_caller() -> None:
    with pytest.warns(DeprecationWarning, match=r"categorize: example_inputs= is called") as seen:
        table = categorize(net(), example_inputs=X)
    assert seen[0].filename == __file__
    assert [gain.name for gain in table] == [gain.name for gain in categorize(net(), inputs=X)]


def test_every_function_that_took_example_inputs_still_does() -> None:
    decay = {"weight_decay": 0.1, "policy": "all"}
    with pytest.warns(DeprecationWarning, match="param_groups"):
        param_groups(net(), **decay, example_inputs=X)
    with pytest.warns(DeprecationWarning, match="make_optimizer"):
        made = make_optimizer(torch.optim.AdamW, net(), **decay, lr=0.1, example_inputs=X)
    assert "example_inputs" not in made.defaults
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(DeprecationWarning, match="StrongRegularizer"):
        StrongRegularizer(optimizer, model=model, l1=0.1, example_inputs=X)


def test_both_names_at_once_are_one_argument_too_many() -> None:
    with pytest.raises(TypeError, match="inputs= twice: example_inputs= is its old name"):
        categorize(net(), inputs=X, example_inputs=X)
