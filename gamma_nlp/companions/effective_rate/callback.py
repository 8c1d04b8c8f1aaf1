"""Log the effective learning rates of a Trainer's run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState
from transformers import TrainerCallback

from gamma_nlp.companions.arguments import (
    first_names,
    name_list,
    named_parameters,
    whole_number,
    wide,
)
from gamma_nlp.companions.effective_rate.rate import EffectiveRate, effective_lr
from gamma_nlp.companions.effective_rate.report import ScaleInvariance
from gamma_nlp.errors import GammaError
from gamma_nlp.names import renamed_arguments
from gamma_nlp.wrappers import unwrap_optimizer, whole


class EffectiveRateCallback(TrainerCallback):
    """Log effective learning rates, norms, and the angle by which a step turns the tensors.

    Only steps that are logged cost anything: a copy of the tensors and a few sums. The log gets
    medians over the tensors: ``effective_lr``, ``effective_lr_predicted`` (at equilibrium),
    ``norm_to_equilibrium`` (1 once it is reached), ``angle`` and ``angle_predicted`` (radians).
    Reporters such as TensorBoard get them only if they come after this callback: :meth:`put_first`.

    Args:
        names: Parameter names, or what :func:`.invariance.scale_invariant` found.
        every: Measure at each step that is a multiple of this; by default ``logging_steps``.

    Attributes:
        history: For each measured step: ``step``, ``angles`` and ``rates`` by parameter name.

    Raises:
        GammaError: There is no tensor to measure; ``every`` is not a whole number of steps; or the
            optimizer lacks a name (at the first measurement).
    """

    @renamed_arguments(tensors="names")
    def __init__(self, names: ScaleInvariance | Iterable[str], every: int | None = None) -> None:
        if isinstance(names, ScaleInvariance):
            names = [one.names[0] for one in names if one.whole]
        self.names = name_list(names)
        if not self.names:
            raise GammaError(
                "there is no scale-invariant tensor to measure; pass names=, or leave the "
                "callback out"
            )
        self.every = None if every is None else whole_number(every, "every")
        self.history: list[dict[str, Any]] = []
        self._before: list[Tensor] | None = None
        self._rates: list[EffectiveRate] = []
        self._new: dict[str, float] = {}

    def put_first(self, trainer: Any) -> None:
        """Move to the front of a trainer's callbacks, so that all reporters get the figures."""
        callbacks = trainer.callback_handler.callbacks
        callbacks[:] = [self, *(one for one in callbacks if one is not self)]

    def on_pre_optimizer_step(
        self,
        args: Any,
        state: Any,
        control: Any,
        optimizer: Any = None,
        model: Any = None,
        **kw: Any,
    ) -> None:
        every = self.every or state.logging_steps
        if optimizer is None or every < 1 or (state.global_step + 1) % every:
            return
        bare = unwrap_optimizer(optimizer)
        _unscale(getattr(optimizer, "scaler", None), bare)
        self._rates = effective_lr(bare, self.names, model)
        self._before = [w.detach().clone() for w in self._tensors(bare, model).values()]

    def on_optimizer_step(
        self,
        args: Any,
        state: Any,
        control: Any,
        optimizer: Any = None,
        model: Any = None,
        **kw: Any,
    ) -> None:
        if self._before is None:
            return
        now = self._tensors(unwrap_optimizer(optimizer), model)
        turned = angles(self._before, list(now.values()))
        self._before = None
        rates = self._rates
        self.history.append(
            {
                "step": state.global_step + 1,
                "angles": dict(zip(now, turned, strict=True)),
                "rates": {one.name: one for one in rates},
            }
        )
        self._new = {
            "effective_lr": statistics.median(one.rate for one in rates),
            "effective_lr_predicted": statistics.median(one.equilibrium_rate for one in rates),
            "norm_to_equilibrium": statistics.median(
                one.norm / one.equilibrium_norm if one.equilibrium_norm else math.inf
                for one in rates
            ),
            "angle": statistics.median(turned),
            "angle_predicted": statistics.median(one.equilibrium_angle for one in rates),
        }

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not self._new or logs is None or "loss" not in logs:
            return
        logs.update(self._new)
        state.log_history[-1].update(self._new)
        self._new = {}

    def _tensors(self, optimizer: Any, model: Any) -> dict[str, Tensor]:
        known = named_parameters(optimizer, model)
        return {name: known[name][1] for name in first_names(self.names, model)}


def _unscale(scaler: Any, optimizer: Any) -> None:
    """Divide gradients by a grad scaler's factor, if clipping has not; else the step does."""
    if scaler is None or not scaler.is_enabled():
        return
    if scaler._per_optimizer_states[id(optimizer)]["stage"] is OptState.READY:
        scaler.unscale_(optimizer)


@torch.no_grad()
def angles(before: list[Tensor], after: list[Tensor]) -> list[float]:
    """Return the angle between each tensor and its former value, accurate for small ones too."""
    if not before:
        return []
    units = []
    for tensors in (before, after):
        values = [t.detach().to(wide(t)) for t in tensors]
        units.append([value / whole(value.norm()) for value in values])
    gaps = [whole((new - old).norm()) for old, new in zip(*units, strict=True)]
    home = gaps[0].device
    half = torch.stack([(gap / 2).to(home, torch.float32) for gap in gaps]).clamp(max=1)
    return [float(one) for one in (2 * half.asin()).tolist()]
