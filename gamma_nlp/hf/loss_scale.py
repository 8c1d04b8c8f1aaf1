"""Find out whether a loss uses the item count it gets, by computing it, not by a list of names.

The Trainer hands ``num_items_in_batch`` to every model whose forward pass takes ``**kwargs``, and
assumes that the loss is then the sum over items divided by that count. Classification models take
the keyword and ignore it, so their loss and gradients come out too large: by the number of
accumulated batches, or of processes.
"""

from __future__ import annotations

import copy
import enum
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class LossScale(enum.IntEnum):
    """What the loss does when the item count doubles; the order lets processes agree by max."""

    UNKNOWN = 0
    """Zero or not finite on this batch, which settles nothing."""
    IGNORES = 1
    """It stays the same: it is the mean over its own batch."""
    FOLLOWS = 2
    """It changes: it uses the count."""


def loss_scale(trainer: Any, batch: Any, count: Any) -> LossScale:
    """Compute the loss of one batch for ``count`` items and for twice as many, and compare.

    Nothing is left behind: no gradients, no random numbers drawn, all modules in the mode they
    were in, no attribute of the trainer changed. All processes get the same answer.

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
    one, two = (_loss(trainer, batch, times * items) for times in (1, 2))
    if not (math.isfinite(one) and math.isfinite(two)) or one == 0:
        return LossScale.UNKNOWN
    return LossScale.IGNORES if abs(one - two) <= 1e-3 * abs(one) else LossScale.FOLLOWS


def _loss(trainer: Any, batch: Any, count: Any) -> float:
    trainer = copy.copy(trainer)
    if hasattr(trainer, "_metrics"):  # TRL collects means of what compute_loss sees
        trainer._metrics = copy.deepcopy(trainer._metrics)
    # The bare model: a compiled one would be compiled once more for eval mode.
    with _untouched(trainer.model), trainer.compute_loss_context_manager():
        inputs = trainer._prepare_inputs(batch)
        return float(trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count))


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters(), torch.empty(0)).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
