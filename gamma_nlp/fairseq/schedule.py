"""The learning rates a fairseq run will use, found by running its scheduler ahead."""

from __future__ import annotations

import argparse
import copy
import math
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer, lr_scheduler
from omegaconf import DictConfig, OmegaConf

SCORED = ("reduce_lr_on_plateau", "pass_through", "manual")
"""Schedules that follow validation scores, or leave the learning rate to something else."""


class StandIn(FairseqOptimizer):
    """An optimizer of one number, whose learning rate a scheduler sets."""

    def __init__(self, rate: float) -> None:
        super().__init__(None)
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)


def rates_of_fairseq(trainer: Any) -> list[float] | None:
    """Return the learning rate of every update of a run.

    ``None`` if it cannot be known: the run has no set end, or its schedule follows scores. Neither
    the trainer's optimizer nor its scheduler is needed: a throwaway one runs ahead.
    """
    updates = updates_of_fairseq(trainer)
    if updates is None or getattr(trainer.cfg.lr_scheduler, "_name", None) in SCORED:
        return None
    epoch = _updates_of_an_epoch(trainer)
    scheduler, stand_in = _throwaway(trainer.cfg)
    rates: list[float] = []
    number = 1
    while len(rates) < updates:
        scheduler.step_begin_epoch(number)
        for _ in range(min(epoch or updates, updates - len(rates))):
            scheduler.step_update(len(rates))
            rates.append(float(stand_in.get_lr()))
        scheduler.step(number, None)
        number += 1
    return rates


def peak_of_fairseq(trainer: Any) -> float:
    """Return the largest learning rate that the options of a run name, whatever its length."""
    cfg = trainer.cfg
    scheduler, _ = _throwaway(cfg)
    typed = [*cfg.optimization.lr, getattr(scheduler, "max_lr", 0.0)]  # triangular's is not --lr
    if getattr(cfg.lr_scheduler, "_name", None) == "manual":
        typed = [*scheduler.update2lr.values(), *scheduler.epoch2lr.values()] or typed
    return max(map(float, typed))


def updates_of_fairseq(trainer: Any) -> int | None:
    """Return the number of updates of a run, or ``None`` if it has no set end."""
    cfg = trainer.cfg.optimization
    most = [cfg.max_update] if cfg.max_update else []
    if cfg.max_epoch and (epoch := _updates_of_an_epoch(trainer)) is not None:
        most.append(cfg.max_epoch * epoch)
    return min(most, default=None)


def _throwaway(cfg: Any) -> tuple[Any, StandIn]:
    stand_in = StandIn(float(cfg.optimization.lr[0]))
    scheduler = lr_scheduler.build_lr_scheduler(copy.deepcopy(cfg.lr_scheduler), stand_in)
    if isinstance(getattr(scheduler, "cfg", None), DictConfig):  # slow to read at every update
        options: Any = OmegaConf.to_container(scheduler.cfg)
        scheduler.cfg = argparse.Namespace(**options)
    return scheduler, stand_in


def _updates_of_an_epoch(trainer: Any) -> int | None:
    task, cfg = trainer.task, trainer.cfg
    frequency = cfg.optimization.update_freq
    if len(frequency) > 1:
        return None
    if cfg.dataset.train_subset not in task.datasets and _counts_epochs(cfg):
        trainer.get_train_iterator(1)  # a resumed run makes its optimizer before it reads its data
    batches = task.dataset_to_epoch_iter.get(task.datasets.get(cfg.dataset.train_subset))
    if batches is None:
        return None
    whole = math.floor if cfg.optimization.skip_remainder_batch else math.ceil
    return max(whole(len(batches) / frequency[0]), 1)


def _counts_epochs(cfg: Any) -> bool:
    """Return whether the end of a run, or its learning rate, depends on how long an epoch is."""
    annealed = getattr(cfg.lr_scheduler, "force_anneal", None) is not None
    return bool(cfg.optimization.max_epoch) or annealed or len(cfg.optimization.lr) > 1
