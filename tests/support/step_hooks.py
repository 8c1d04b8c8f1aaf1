"""Optimizers with the step hook on a small model, and the kinds of decay they are tried with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.decay.step_hook import StepHook
from tests.support.optim_models import Toy, toy_table

OFFSET = DecayPolicy(name="offset", shortcut=1.0)
DECOUPLED = DecayPolicy(name="decoupled", mode="decoupled")
COUPLED = DecayPolicy(name="coupled", mode="coupled")
START_POLICY = DecayPolicy(name="start", target="start")
DEFERRED = 0.02
CLASSES: dict[Native, type] = {"coupled": torch.optim.Adam, "decoupled": torch.optim.AdamW}


def build(model: Toy, cls: Any = torch.optim.AdamW, policy: Any = OFFSET, **kwargs: Any) -> Any:
    kwargs = {"lr": 0.05, "weight_decay": 0.2, **kwargs}
    return make_optimizer(cls, model, policy=policy, table=toy_table(), **kwargs)


def backward(model: Toy, seed: int = 0) -> None:
    model.zero_grad()
    model.loss(seed).backward()


def decays_of(mode: Any, share: float, schedule: Schedule = LR) -> dict[str, Decay]:
    """Every parameter decays; the centers take turns."""
    centers: Any = (0.0, -1.0, 1.0, "start")
    return {
        name: Decay(
            coefficient=0.3, center=centers[i % 4], mode=mode, share=share, schedule=schedule
        )
        for i, (name, _) in enumerate(Toy().named_parameters())
    }


PARTS = [
    pytest.param(native, mode, share, id=f"{mode} on {native}{' deferred' * bool(share)}")
    for native in ("coupled", "decoupled")
    for mode, share in (("coupled", 0.0), ("decoupled", 0.0), ("decoupled", DEFERRED))
]


def hooks(optimizer: torch.optim.Optimizer) -> list[StepHook]:
    found = optimizer._optimizer_step_pre_hooks.values()
    return [h.__self__ for h in found if isinstance(getattr(h, "__self__", None), StepHook)]
