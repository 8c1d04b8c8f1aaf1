"""What strong regularisation cannot act on is refused, with what to pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from tests.support.optim_models import Toy, toy_table
from tests.support.regularized import (
    NAMES,
    adamw,
    network,
    sgd,
)


def test_sparse_gradients_are_refused() -> None:
    layer = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(layer.named_parameters(), lr=0.1)
    StrongRegularizer(optimizer, names=["weight"], l1=0.1)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(GammaError, match="'weight' has a sparse gradient"):
        optimizer.step()


def test_by_default_weights_are_meant_and_nothing_else() -> None:
    model = Toy()
    optimizer = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=0.1, table=toy_table(), policy="none"
    )
    strong = StrongRegularizer(optimizer, model=model, table=toy_table(), l1=0.1)
    assert [row.name for row in strong.report().rows] == ["w"]
    traced = network()
    strong = StrongRegularizer(sgd(traced), model=traced, inputs=torch.randn(2, 12), l1=0.1)
    assert [row.name for row in strong.report().rows] == NAMES
    with pytest.raises(GammaError, match="pass model= and inputs="):
        StrongRegularizer(sgd(traced), l1=0.1)


def test_a_model_whose_inputs_are_unknown_gets_told_what_to_pass() -> None:
    model = network()
    with pytest.raises(GammaError) as raised:
        StrongRegularizer(sgd(model), model=model, l1=0.1)
    text = str(raised.value)
    assert text.startswith("StrongRegularizer cannot tell which tensors of Sequential are weights")
    assert "pass inputs= that the model takes" in text and f"names=[{str(NAMES)[1:-1]}]" in text
    with pytest.raises(GammaError, match="forward pass of Sequential failed in module '0'"):
        StrongRegularizer(sgd(model), model=model, inputs=torch.randn(2, 5), l1=0.1)
    with pytest.raises(GammaError, match="the optimizer has none of the model's weights"):
        bias = torch.optim.SGD([model[0].bias], lr=0.1)
        StrongRegularizer(bias, model=model, inputs=torch.randn(2, 12), l1=0.1)


def test_the_advice_is_a_call_of_ones_own() -> None:
    model = network()
    for inputs in (None, torch.randn(2, 5)):
        with pytest.raises(GammaError) as raised:
            StrongRegularizer(sgd(model), model=model, inputs=inputs, l1=0.1)
        text = str(raised.value)
        assert "StrongRegularizer(optimizer, model=model, inputs=" in text
        assert "categorize" not in text and "make_optimizer" not in text


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(GammaError, match=r"no parameter '0\.wieght'; did you mean '0\.weight'\?"):
        StrongRegularizer(sgd(network()), names=["0.wieght"], l1=0.1)


def test_l2_beside_the_optimizers_own_decay_is_refused() -> None:
    model = network()
    with pytest.raises(GammaError, match=r"l2=0.1 would act on '0.weight' beside"):
        StrongRegularizer(adamw(model, weight_decay=0.01), names=NAMES, l2=0.1)
    toy = Toy()
    coupled = make_optimizer(
        torch.optim.AdamW, toy, weight_decay=0.1, lr=0.1, table=toy_table(), policy="all_params"
    )
    with pytest.raises(GammaError, match="on 'w' beside the optimizer's own weight decay"):
        StrongRegularizer(coupled, names=["w"], l2=0.1)
    StrongRegularizer(adamw(model, weight_decay=0.01), names=NAMES, l1=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "both 0"),
        ({"l1": -1}, "l1 must be"),
        ({"l2": math.nan}, "l2 must be"),
        ({"l1": 1, "rule": "sometimes"}, "'always', 'delayed', 'direction', 'magnitude'"),
        ({"l1": 1, "scope": "row"}, "'global', 'tensor'"),
        ({"l1": 1, "rule": "delayed"}, "needs delay_steps"),
        ({"l1": 1, "threshold": 2}, "cosine"),
        ({"l1": 1, "ratio": math.inf}, "ratio must be"),
        ({"l1": 1, "every": 0}, "every must be a whole number, at least 1"),
        ({"l1": 1, "delay_steps": 1.5}, "delay_steps must be"),
        ({"l1": 1, "names": ["9.weight"]}, "has no parameter '9.weight'"),
        ({"l1": 1, "names": []}, "no tensor to regularise"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        StrongRegularizer(sgd(network()), **{"names": NAMES, **settings})


def test_what_is_not_an_optimizer_or_a_list_of_names_is_refused() -> None:
    with pytest.raises(GammaError, match="optimizer is a Sequential; expected a torch"):
        StrongRegularizer(network(), names=NAMES, l1=0.05)  # type: ignore[arg-type]
    with pytest.raises(GammaError, match=r"names must be a list of names.*\['0\.weight'\]"):
        StrongRegularizer(sgd(network()), names="0.weight", l1=0.05)
