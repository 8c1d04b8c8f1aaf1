"""Find out how a loss follows the item count it gets, by computing it, not by a list of names.

The Trainer hands ``num_items_in_batch`` to models whose forward pass takes ``**kwargs`` and to a
``compute_loss_func``, and assumes that the loss is then a sum over items divided by that count.
Classification models and many loss functions ignore it, and a penalty (a router's load balance, a
distance to another model) is often a mean that is added to such a sum. What is not divided by the
count comes out too large: by the number of accumulated batches, or of processes.

With loss(n) = a / n + m, all are right at once if each of G batches is given the count n / G and
its loss is divided by G: the sums add up to a / n, the means are averaged.
"""

from __future__ import annotations

import copy
import enum
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import nn


class LossScale(enum.IntEnum):
    """How the loss depends on the item count; the order lets processes agree by max."""

    UNKNOWN = 0
    """Zero or not finite on this batch, which settles nothing."""
    IGNORES = 1
    """Not at all: it is the mean over its own batch."""
    FOLLOWS = 2
    """It is a sum divided by the count, all of it."""
    PARTLY = 3
    """A part of it is: the rest is a mean, such as a penalty."""
    OTHERWISE = 4
    """In another way, so how to add up the losses of several batches is not known."""


def loss_scale(trainer: Any, batch: Any, count: Any) -> LossScale:
    """Compute the loss of one batch for ``count`` items and for multiples of it, and compare.

    Nothing is left behind: no gradients, no random numbers drawn, all modules in the mode they
    were in, no buffer and no attribute of the trainer changed. All processes get the same answer.

    Args:
        trainer: A transformers Trainer; its ``compute_loss`` is called.
        batch: One batch from the data loader.
        count: The Trainer's item count, a number or tensor.
    """
    found = _compare(trainer, batch, count)
    if trainer.args.world_size > 1:
        every = trainer.accelerator.gather(torch.tensor([found.value], device=trainer.args.device))
        found = LossScale(int(every.max()))
    return found


def _compare(trainer: Any, batch: Any, count: Any) -> LossScale:
    items = count.reshape(-1)[0] if isinstance(count, torch.Tensor) else count
    if not float(items) > 0:
        return LossScale.UNKNOWN
    one, two = _loss(trainer, batch, items), _loss(trainer, batch, 2 * items)
    if not (math.isfinite(float(one)) and math.isfinite(float(two))) or float(one) == 0:
        return LossScale.UNKNOWN
    rounding = 8 * torch.finfo(one.dtype).eps
    share = 2 * (1 - float(two) / float(one))  # of a / n in loss(n) = a / n + m
    if abs(share) <= 1e-3:
        return LossScale.IGNORES
    if abs(1 - share) <= max(1e-4, rounding):
        return LossScale.FOLLOWS
    four = float(_loss(trainer, batch, 4 * items)) / float(one)
    fits = abs(four - (1 - 0.75 * share)) <= max(1e-3, rounding)
    return LossScale.PARTLY if fits else LossScale.OTHERWISE


def _loss(trainer: Any, batch: Any, count: Any) -> torch.Tensor:
    trainer = copy.copy(trainer)
    if hasattr(trainer, "_metrics"):  # TRL collects means of what compute_loss sees
        trainer._metrics = copy.deepcopy(trainer._metrics)
    # The bare model: a compiled one would be compiled once more without gradients.
    with _untouched(trainer.model), trainer.compute_loss_context_manager():
        inputs = trainer._prepare_inputs(batch)
        loss: torch.Tensor = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count)
        return loss.mean()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modes
        for name, buffer in module.named_buffers(recurse=False)
    ]
    drawn = random.getstate(), numpy.random.get_state()
    device = next(model.parameters(), torch.empty(0)).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        model.train()  # some penalties are added in training alone
        try:
            yield
        finally:
            for module, training in modes.items():
                if module.training != training:  # parents first; a module may act on a change
                    module.train(training)
            for module, name, buffer, value in buffers:
                buffer.copy_(value)
                setattr(module, name, buffer)
            random.setstate(drawn[0])
            numpy.random.set_state(drawn[1])
