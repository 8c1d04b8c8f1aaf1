"""Losses that come out right over accumulated batches and processes, whatever they do with a count.

``loss_scale`` finds out what that is; here the Trainer is told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from gamma_nlp.hf.loss_scale import LossScale, loss_scale

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.getLogger("gamma_nlp")


class AccumulationMixin(_Base):
    """Average what a loss does not divide by the Trainer's item count.

    The loss is measured on the first batch, and again at steps 1, 10, 100, ... as long as all of
    it follows the count, since a penalty may start at zero.
    """

    loss_is_scaled_for_ga: bool | None
    _loss_scale = LossScale.UNKNOWN
    _loss_known_for: type | None = None
    _ask_loss_at = 0
    _declared: bool | None = None

    def _get_num_items_in_batch(self, batch_samples: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Return the count that a batch is given: its share, if a part of the loss is a mean."""
        count = super()._get_num_items_in_batch(batch_samples, *args, **kwargs)
        if count is None:
            return None
        if self._loss_in_doubt():
            self._ask_loss(batch_samples[0], count)
        if self._loss_scale is LossScale.PARTLY:
            return count / (len(batch_samples) * self._processes())
        return None if self._loss_scale is LossScale.IGNORES else count

    def _ask_loss(self, batch: Any, count: Any) -> None:
        before, found = self._loss_scale, loss_scale(self, batch, count)
        if found is LossScale.UNKNOWN:
            return
        if self._loss_known_for is None:
            self._declared = self.loss_is_scaled_for_ga
        self._loss_scale, self._loss_known_for = found, type(self.model)
        # A penalty may start at zero, so a loss that follows the count is asked again.
        self._ask_loss_at = max(10 * self.state.global_step, 1)
        apart = found in (LossScale.IGNORES, LossScale.PARTLY)
        # The Trainer divides by the number of accumulated batches where this is False.
        self.loss_is_scaled_for_ga = False if apart else self._declared
        if found is LossScale.IGNORES:
            self.model_accepts_loss_kwargs = False
        name = getattr(self.compute_loss_func, "__qualname__", type(self.model).__name__)
        if found is LossScale.OTHERWISE and found is not before:
            logger.warning(
                "the loss of %s is neither a mean nor a sum divided by num_items_in_batch, so "
                "whether it is right over accumulated batches and processes is not known",
                name,
            )
        elif apart and found is not before:
            logger.info(
                "%s of %s ignores num_items_in_batch: it is averaged over accumulated batches "
                "and processes instead of summed",
                "the loss" if found is LossScale.IGNORES else "a part of the loss",
                name,
            )

    def _loss_in_doubt(self) -> bool:
        args = self.args
        if max(args.gradient_accumulation_steps, args.world_size, args.n_gpu) == 1:
            return False  # one batch at a time: the sum divided by the count is the mean
        if self._loss_known_for is type(self.model):
            follows = self._loss_scale is LossScale.FOLLOWS
            return follows and self.state.global_step >= self._ask_loss_at
        own = type(self).compute_loss is not Trainer.compute_loss or self.compute_loss_func
        return not own or self.loss_is_scaled_for_ga is None or self._loss_known_for is not None

    def _processes(self) -> int:
        """Return by how many processes the Trainer multiplies a loss, to average it over them."""
        if not self.args.average_tokens_across_devices:
            return 1
        several = self.accelerator.num_processes // self.get_tp_size()
        return int(self.args.n_gpu if self.args.n_gpu > 1 else several)

    @contextmanager
    def _unmultiplied(self) -> Iterator[None]:
        """Keep the Trainer from that where the share of the count has seen to it."""
        before = self.args.average_tokens_across_devices
        self.args.average_tokens_across_devices = before and (
            self._loss_scale is not LossScale.PARTLY
        )
        try:
            yield
        finally:
            self.args.average_tokens_across_devices = before

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with self._unmultiplied():
            return super().training_step(*args, **kwargs)

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        with self._unmultiplied():
            return super().prediction_step(*args, **kwargs)
