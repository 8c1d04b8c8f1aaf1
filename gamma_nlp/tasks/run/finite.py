"""A run whose numbers are no longer numbers ends, and says at which step and what to try."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.checkpoints import last_checkpoint

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

OnNan = Literal["stop", "skip", "warn"]

SKIPPED = "skipped_step"
"""The key under which a Trainer logs a step that was left out."""

_MOST_IN_A_ROW = 20

logger = logging.getLogger("gamma_nlp")


class OutputNotFinite(GammaError):
    """A model computes no numbers; a run that evaluates it adds the step."""

    def __init__(self) -> None:
        super().__init__("the model's output is not a number (nan); has training diverged?")


class FiniteRun(_Base):
    """Watches loss, gradients, weights and scores of a Trainer; put it before the Trainer.

    Under fp16 a step that overflows is the gradient scaler's to skip.

    Attributes:
        on_nan: What to do where a step's loss or gradient is not finite. ``stop`` ends the run
            before the optimizer takes the step; ``skip`` leaves the step out: nothing moves, not
            even by decay; ``warn`` takes it.

    Raises:
        GammaError: At such a step; after 20 of them in a row; before a checkpoint or a score is
            made of weights that are not finite, whatever ``on_nan`` says.
    """

    on_nan: OnNan = "stop"
    _bad_loss: Any = False
    _in_a_row = 0

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.args.fp16:
            return loss
        bad = ~torch.isfinite(loss.detach())
        self._bad_loss = bad | self._bad_loss
        return loss.masked_fill(bad, 0.0) if self.on_nan == "skip" else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Leave gradients as they are if one is not finite: clipped, all of them would be nan."""
        if not self._is_plain(model):
            return super()._clip_grad_norm(model)
        norm = _gradient_norm(model)
        at_most = norm.masked_fill(~torch.isfinite(norm), 0.0)
        nn.utils.clip_grads_with_norm_(model.parameters(), self.args.max_grad_norm, at_most)
        return norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if grad_norm is None and self._is_plain(model):
            grad_norm = _gradient_norm(model)
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not self.args.fp16:
            self._judge(norm)
        return norm

    def _is_plain(self, model: Any) -> bool:
        """Return whether every process has all gradients, unscaled."""
        elsewhere = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return not (self.args.fp16 or elsewhere or self._has_mixed_mesh_grads(model))

    def _judge(self, norm: Any) -> None:
        """Decide about a step, just before the optimizer takes it."""
        device = self.args.device
        flags = torch.stack(
            [
                torch.as_tensor(self._bad_loss, device=device).reshape(()),
                ~torch.isfinite(torch.as_tensor(norm, device=device)).reshape(()),
            ]
        ).int()
        self._bad_loss = False
        if self.args.world_size > 1:  # all processes do the same
            flags = self.accelerator.gather(flags[None]).amax(dim=0)
        # Waits for the device: a look one step later finds the step taken and its gradients gone.
        bad_loss, bad_gradient = flags.bool().tolist()
        if not (bad_loss or bad_gradient):
            self._in_a_row = 0
            return
        what = "the loss is not a finite number" if bad_loss else self._bad_gradient()
        self._in_a_row += 1
        if self.on_nan == "stop" or not_finite(self.model) is not None:
            raise GammaError(self._diverged(what))
        if self._in_a_row > _MOST_IN_A_ROW:
            raise GammaError(self._diverged(f"{what}, as in the {_MOST_IN_A_ROW} steps before"))
        step = self.state.global_step + 1
        if self.on_nan == "skip":
            logger.warning("%s at step %d: the step is left out", what, step)
            self.log({SKIPPED: step})
            self._leave_out()
        else:
            logger.warning("%s at step %d", what, step)

    def _bad_gradient(self) -> str:
        for name, parameter in self.model.named_parameters():
            grad = parameter.grad
            if grad is not None and not bool(torch.isfinite(_local(grad)).all()):
                return f"the gradient is not finite (of parameter {name!r} first)"
        return "the gradient is not finite"

    def _leave_out(self) -> None:
        """Make the optimizer's next step do nothing."""
        optimizer: Any = self.optimizer
        own = vars(optimizer).get("step")

        def nothing(*args: Any, **kwargs: Any) -> None:
            if own is None:
                del optimizer.step
            else:
                optimizer.step = own

        optimizer.step = nothing

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self._check_weights()
        try:
            scores = super().evaluate(*args, **kwargs)
        except OutputNotFinite as error:
            what = "the model's output is not a number"
            raise GammaError(self._diverged(what, seen=True)) from error
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
        last = last_checkpoint(self.args.output_dir)
        return (
            f"{what} at step {step} of {state.max_steps}: training has diverged, so this run has "
            f"no score; lower learning_rate (it is {self.args.learning_rate:g})"
            f"{' or' if clips else ','} raise warmup_steps"
            f"{'' if clips else ', or set max_grad_norm to 1'}"
            f"{f'; the last good checkpoint, {last.name}, is kept' if last else ''}"
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
        values = _local(parameter.detach())
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


def _gradient_norm(model: nn.Module) -> torch.Tensor:
    """Return the norm of all gradients together, as torch's clipping takes it."""
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _local(tensor: Any) -> torch.Tensor:
    found: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found
