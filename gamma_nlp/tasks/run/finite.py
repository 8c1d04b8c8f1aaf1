"""A run whose numbers are no longer numbers ends, and says at which step and what to try."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class FiniteRun(_Base):
    """Stops a Trainer whose loss, weights or scores are nan or infinite; put it before the Trainer.

    Raises:
        GammaError: In training, at the first such step and before the optimizer takes it; before
            a checkpoint or a score is made of such weights.
    """

    _overflow: Any = False

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.args.fp16:  # the gradient scaler skips a step that overflows
            return loss
        self._overflow = ~torch.isfinite(loss.detach()) | self._overflow
        if self.accelerator.sync_gradients:
            overflow, self._overflow = self._overflow.reshape(1).int(), False
            if self.args.world_size > 1:  # all processes end, each with this error
                overflow = self.accelerator.gather(overflow)
            if bool(overflow.any()):
                raise GammaError(self._diverged("the loss is not a finite number"))
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self._check_weights()
        scores = super().evaluate(*args, **kwargs)
        for name, value in scores.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise GammaError(self._diverged(f"{name} is {value}", seen=True))
        return scores

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._check_weights()
        super()._save_checkpoint(*args, **kwargs)

    def _check_weights(self) -> None:
        if not_finite(self.model):
            raise GammaError(self._diverged("the weights are not finite numbers", seen=True))

    def _diverged(self, what: str, *, seen: bool = False) -> str:
        """Return what to tell the user; ``seen``: after the step, not within it."""
        state = self.state
        step = state.global_step if seen else state.global_step + 1
        bad = not_finite(self.model)
        if bad is not None:
            what += f" (nor is parameter {bad!r})" if "weights" not in what else f" ({bad!r} first)"
        clips = 0 < self.args.max_grad_norm <= 1
        return (
            f"{what} at step {step} of {state.max_steps}: training has diverged, so this run has "
            f"no score; lower learning_rate (it is {self.args.learning_rate:g})"
            f"{' or' if clips else ','} raise warmup_steps"
            f"{'' if clips else ', or set max_grad_norm to 1'}"
        )


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse a model to start from that holds values which are not finite numbers.

    Args:
        model: The model.
        name: What to call it.

    Raises:
        GammaError: Names the first such parameter.
    """
    bad = not_finite(model)
    if bad is not None:
        values = model.get_parameter(bad).detach()
        count = int((~torch.isfinite(values)).sum())
        raise GammaError(
            f"parameter {bad!r} of {name} holds nan or infinity in {count} of {values.numel()} "
            "values, so nothing can be learned from there; the file is damaged, or its own "
            "training diverged: give another model or checkpoint"
        )


def not_finite(model: nn.Module) -> str | None:
    """Return the first parameter that holds nan or infinity, or ``None``."""
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        values = values.to_local() if hasattr(values, "to_local") else values
        if (
            values.is_floating_point()
            and values.element_size() > 1
            and values.device.type != "meta"
        ):
            # A sum is one pass without a mask, and shows nan and infinity; large weights may
            # overflow it, so it only clears.
            if math.isfinite(float(values.sum(dtype=torch.float32))):
                continue
            if not bool(torch.isfinite(values).all()):
                return name
    return None
