"""The learning rates that a fairseq run plans: its scheduler, run ahead on a stand-in."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer, lr_scheduler

METRIC = ("reduce_lr_on_plateau", "pass_through", "manual")
"""Schedules that look at scores, or leave the learning rate to something else."""


class StandIn(FairseqOptimizer):
    """An optimizer of one number, for a scheduler to set the learning rate of."""

    def __init__(self, rate: float) -> None:
        super().__init__(None)
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)


def rates_of_fairseq(trainer: Any) -> list[float] | None:
    """The learning rate of every update of a run, from its first one.

    ``None`` where it is not known: the run has no end, or its schedule follows scores.
    """
    cfg = trainer.cfg
    epoch = _updates_of_an_epoch(trainer)
    updates = _updates(cfg.optimization, epoch)
    if updates is None or getattr(cfg.lr_scheduler, "_name", None) in METRIC:
        return None
    stand_in = StandIn(float(cfg.optimization.lr[0]))
    scheduler = lr_scheduler.build_lr_scheduler(copy.deepcopy(cfg.lr_scheduler), stand_in)
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


def _updates_of_an_epoch(trainer: Any) -> int | None:
    task, cfg = trainer.task, trainer.cfg
    data = task.datasets.get(cfg.dataset.train_subset)
    batches = task.dataset_to_epoch_iter.get(data)
    frequency = cfg.optimization.update_freq
    if batches is None or len(frequency) > 1:
        return None
    return max(math.ceil(len(batches) / frequency[0]), 1)


def _updates(cfg: Any, epoch: int | None) -> int | None:
    most = [cfg.max_update] if cfg.max_update else []
    if cfg.max_epoch and epoch is not None:
        most.append(cfg.max_epoch * epoch)
    return min(most, default=None)
