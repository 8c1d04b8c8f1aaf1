"""One changed import moves decay between parameters, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from transformers.optimization import Adafactor

from gamma_nlp.decay.assign import assign
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values, zero_gradients

MOMENTUM = {"momentum": 0.9}
STOCK: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, MOMENTUM),
    (torch.optim.SGD, {**MOMENTUM, "nesterov": True}),
    (torch.optim.SGD, {**MOMENTUM, "dampening": 0.5}),
    (torch.optim.SGD, {**MOMENTUM, "maximize": True}),
    (torch.optim.SGD, {**MOMENTUM, "fused": True}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {**MOMENTUM, "centered": True}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.1}),
    (torch.optim.Adadelta, {}),
    (torch.optim.Adamax, {}),
    (torch.optim.ASGD, {}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"amsgrad": True, "foreach": True}),
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.Adam, {"decoupled_weight_decay": True}),
    (torch.optim.AdamW, {}),
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.AdamW, {"foreach": True, "maximize": True}),
    (torch.optim.NAdam, {}),
    (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    (torch.optim.RAdam, {}),
    (torch.optim.RAdam, {"decoupled_weight_decay": True}),
    (torch.optim.Adafactor, {}),
    (Adafactor, {"scale_parameter": False, "relative_step": False}),
    (Adafactor, {"lr": None}),
]
IDS = [f"{cls.__module__.split('.')[0]}-{cls.__name__}-{list(kw.items())}" for cls, kw in STOCK]
every_stock_optimizer = pytest.mark.parametrize(("cls", "kwargs"), STOCK, ids=IDS)


def ours(cls: Any, model: nn.Module, policy: Any, **kwargs: Any) -> Optimizer:
    kwargs = {"lr": 0.01, "weight_decay": 0.1, **kwargs}
    return make_optimizer(cls, model, policy=policy, table=toy_table(offset=0.0), **kwargs)


@every_stock_optimizer
def test_all_parameters_decay_as_in_the_stock_optimizer(cls: Any, kwargs: dict) -> None:
    models = [Toy(), Toy()]
    kwargs = {"lr": 0.01, **kwargs}
    train(models[0], ours(cls, models[0], "all_params", **kwargs), 20)
    train(models[1], cls(models[1].parameters(), weight_decay=0.1, **kwargs), 20)
    assert_equal(*models)


@every_stock_optimizer
def test_each_parameter_moves_as_in_the_stock_optimizer_with_its_decay(
    cls: Any, kwargs: dict
) -> None:
    kwargs = {"lr": 0.01, **kwargs}
    own = DecayPolicy(name="own", branch_inner=0.5, head=2.0, shift=0.25)
    for policy in ("none", "guidelines", "all", own):
        models = [Toy(), Toy()]
        decays = assign(toy_table(offset=0.0), DecayPolicy.load(policy), 0.1)
        groups = [
            {"params": [p], "weight_decay": decays[name].coefficient}
            for name, p in models[1].named_parameters()
        ]
        train(models[0], ours(cls, models[0], policy, **kwargs), 20)
        train(models[1], cls(groups, **kwargs), 20)
        assert_equal(*models)


def test_decay_of_sgd_with_momentum_stays_in_the_gradient() -> None:
    """300 steps without a gradient: torch leaves 4 % of a weight, decoupled decay 74 %."""
    models = [Toy(), Toy()]
    settings = {"lr": 0.01, "momentum": 0.9}
    optimizers = [
        ours(torch.optim.SGD, models[0], "none", **settings),
        torch.optim.SGD(models[1].parameters(), weight_decay=0.1, **settings),
    ]
    before = values(models[0])["w"]
    for model, optimizer in zip(models, optimizers, strict=True):
        for _ in range(300):
            zero_gradients(model)
            optimizer.step()
    assert torch.equal(models[0].w, models[1].w)
    torch.testing.assert_close(models[0].w / before, torch.full((4, 4), 0.0398), rtol=0, atol=2e-3)
    assert torch.equal(models[0].trunk, Toy().trunk)


def test_every_preset_leaves_the_kind_of_decay_to_the_optimizer() -> None:
    assert {policy.mode for policy in PRESETS.values()} == {"native"}
