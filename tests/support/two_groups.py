"""A toy model in the groups of the stock Trainer and in our own."""

from __future__ import annotations

import torch

from gamma_nlp.decay.optimizer import make_optimizer
from tests.support.optim_models import Toy, toy_table

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
