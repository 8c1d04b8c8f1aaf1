"""Recorded steps train as usual ones do; checked with a recorder that keeps a GPU's rules."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from gamma_nlp.hf.graphs.capture import Capture, Plain
from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tape import Tape
from tests.support.tiny_models import arguments, classified, texts, tiny_bert, tiny_gpt2


class GraphedTrainer(GraphedSteps, GammaTrainer):
    graphs = "on"


def trained(
    folder: Path,
    capture: Capture | None,
    model: nn.Module | None = None,
    callbacks: Any = None,
    data: Any = None,
    policy: Any = "all",
    **changes: Any,
) -> GraphedTrainer:
    settings = {
        "optim": "adamw_torch_fused",
        "max_steps": 12,
        "warmup_steps": 3,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        **changes,
    }
    trainer = GraphedTrainer(
        model=tiny_bert() if model is None else model,
        args=arguments(folder, **settings),
        train_dataset=classified() if data is None else data,
        eval_dataset=classified(),
        decay_policy=policy,
        callbacks=callbacks,
    )
    trainer.capture = capture
    if capture is None:
        trainer.graphs = "off"
    trainer.train()
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def logged(trainer: Any) -> list[dict[str, float]]:
    kept = ("loss", "grad_norm", "learning_rate", "eval_loss", "gain_norm/shortcut")
    return [{k: v for k, v in entry.items() if k in kept} for entry in trainer.state.log_history]


def same(one: Any, other: Any) -> None:
    assert logged(one) == logged(other)
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def dropping() -> nn.Module:
    model = tiny_bert()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    return model


@pytest.mark.parametrize("capture", [Plain, Tape])
@pytest.mark.parametrize("clip", [0.05, 0.0])
def test_recorded_steps_equal_usual_ones(tmp_path: Path, capture: Any, clip: float) -> None:
    changes = {"max_grad_norm": clip, "eval_strategy": "steps", "eval_steps": 4}
    usual = trained(tmp_path / "usual", None, dropping(), **changes)
    recorded = trained(tmp_path / "recorded", capture(), dropping(), **changes)
    same(recorded, usual)
