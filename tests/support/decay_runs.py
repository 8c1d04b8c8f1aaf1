"""A run of a few steps under a policy with every target and schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from tests.support.optim_models import Toy, toy_table, train

STEPS = 24
RATES = [0.02 * (1 - step / STEPS) for step in range(STEPS)]
EVERYTHING = DecayPolicy(
    name="everything",
    shift=1.0,
    shortcut=1.0,
    head=1.0,
    target="one",
    targets={"branch_last": "start", "shift": "start"},
    schedules={
        "weight": "lr_squared",
        "head": {"kind": "cosine", "end": 0.5},
        "shortcut": {"kind": "linear", "end": 0.5},
    },  # type: ignore
)


def build(model: nn.Module, policy: Any = EVERYTHING, **kwargs: Any) -> torch.optim.Optimizer:
    settings = {"lr": 0.02, "weight_decay": 0.2, "rates": RATES, **kwargs}
    return make_optimizer(torch.optim.AdamW, model, policy=policy, table=toy_table(), **settings)


def run(model: Toy, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        train(model, optimizer, 1, step)
