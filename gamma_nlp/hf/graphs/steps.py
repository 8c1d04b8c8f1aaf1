"""The three recordings that make a training step: both passes, clipping, the optimizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch

from gamma_nlp.hf.graphs.capture import Capture
from gamma_nlp.hf.graphs.gradients import Gradients
from gamma_nlp.hf.graphs.optimizer import RepeatedStep, why_not_step
from gamma_nlp.hf.graphs.repeated import CannotRecord, Inputs, Repeated
from gamma_nlp.wrappers import unwrap_optimizer

logger = logging.getLogger("gamma_nlp")

MOST_SHAPES = 40
"""Recordings of the passes; each holds some thousand kernels."""

_MOST_CLIPS = 4
_COUNT = "num_items_in_batch"


class RecordedSteps:
    """Stands for a Trainer's ``training_step``, ``_clip_grad_norm`` and ``optimizer.step``.

    The latter two are put in place at once, and ``remove`` takes them away.

    Args:
        trainer: In training.
        model: The one that its ``training_step`` gets.
        usual: The ``training_step`` to record.
        capture: How to record.
    """

    def __init__(
        self, trainer: Any, model: Any, usual: Callable[..., torch.Tensor], capture: Capture
    ) -> None:
        self.trainer, self.model, self._usual = trainer, model, usual
        self.gradients = Gradients(model.parameters())
        self._count: Any = None
        self._made: Hashable = None
        self._passes = Repeated(
            self._both_passes, capture, most=MOST_SHAPES, on_full=_say_many_shapes
        )
        self._usual_clip = trainer._clip_grad_norm
        self._clips = Repeated(self._clip_once, capture, most=_MOST_CLIPS)
        trainer._clip_grad_norm = self.clip
        self._optimizer = unwrap_optimizer(trainer.optimizer)
        self._usual_step = vars(self._optimizer).get("step")
        why = why_not_step(self._optimizer, on_gpu=capture.on_gpu)
        if why is None:
            step = RepeatedStep(self._optimizer, capture, key=lambda: self._made)
            self._optimizer.step = step
        else:
            logger.warning("graphs: the optimizer's step runs as usual, since %s", why)

    def remove(self) -> None:
        """Leave the trainer as it was."""
        vars(self.trainer).pop("_clip_grad_norm", None)
        vars(self._optimizer).pop("step", None)
        if self._usual_step is not None:  # a scheduler's
            self._optimizer.step = self._usual_step

    def passes(self, inputs: Any, count: Any) -> torch.Tensor:
        """Return the loss of a batch, and leave the gradients that it makes.

        Raises:
            CannotRecord: It was not done.
        """
        if not self.model.training:  # evaluation left it so, and a replay does not change it
            self.model.train()
            if callable(getattr(self.trainer.optimizer, "train", None)):
                self.trainer.optimizer.train()
        batch = dict(self.trainer._prepare_inputs(inputs))
        other = [name for name, x in batch.items() if not isinstance(x, torch.Tensor)]
        if other:
            raise CannotRecord(f"{other[0]!r} of a batch is no tensor")
        self._count = count
        if isinstance(count, torch.Tensor):
            batch[_COUNT] = count
        places = self.gradients.places()
        loss, made = self._passes(batch, key=(places, self._decided()))
        self.gradients.give(made)
        self._made = places, made
        return loss.clone()  # the next recording overwrites it

    def _both_passes(self, inputs: Inputs) -> tuple[torch.Tensor, int]:
        batch = dict(inputs)
        count = batch.pop(_COUNT, self._count)
        self.gradients.clear()
        loss = self._usual(self.model, batch, count)
        return loss, self.gradients.take()

    def _decided(self) -> Hashable:
        """Return what a Trainer may decide anew between two steps."""
        trainer, count = self.trainer, self._count
        return (
            None if isinstance(count, torch.Tensor) else count,
            trainer.loss_is_scaled_for_ga,
            trainer.model_accepts_loss_kwargs,
            trainer.current_gradient_accumulation_steps,
        )

    def clip(self, model: Any) -> Any:
        """Clip as the trainer does, and return the norm of the gradients."""
        try:
            norm = self._clips({}, key=(self._made, self.trainer.args.max_grad_norm))
        except CannotRecord as error:
            logger.warning("graphs: gradients are clipped as usual, since %s", error)
            del self.trainer._clip_grad_norm
            return self._usual_clip(model)
        return norm.clone() if isinstance(norm, torch.Tensor) else norm

    def _clip_once(self, inputs: Inputs) -> Any:
        return self._usual_clip(self.model)


def _say_many_shapes() -> None:
    logger.warning(
        "graphs: batches come in more than %d shapes, and the others run as usual; give them "
        "fewer shapes (in a recipe, batch_shapes: few)",
        MOST_SHAPES,
    )
