"""Trainers of a small model with the mixin, and the decay of each of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from gamma_nlp.decay.assign import assign
from gamma_nlp.hf.trainer import GammaTrainer
from tests.support.tiny_models import arguments, classified, tiny_bert


def decays(optimizer: Any) -> dict[str, float]:
    return {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def expected(trainer: Any) -> dict[str, float]:
    planned = assign(trainer.gain_table, trainer.policy, trainer.args.weight_decay)
    return {name: decay.coefficient for name, decay in planned.items()}


def build(folder: Path, model: nn.Module | None = None, **kwargs: Any) -> GammaTrainer:
    args = kwargs.pop("args", None) or arguments(folder, **kwargs.pop("changes", {}))
    data = kwargs.pop("train_dataset", classified())
    model = tiny_bert() if model is None and "model_init" not in kwargs else model
    return GammaTrainer(model=model, args=args, train_dataset=data, **kwargs)
