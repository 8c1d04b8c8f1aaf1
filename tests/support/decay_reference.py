"""Decay as its definition says it: one tensor at a time, host numbers, no hook.

``Reference`` stands beside an optimizer of the library and has to end at the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.groups import merged_groups
from gamma_nlp.decay.optimizer import attach
from gamma_nlp.decay.policies.keys import Native

GOLDEN = (math.sqrt(5) - 1) / 2


def hooked(
    cls: type[Optimizer],
    model: nn.Module,
    decays: Mapping[str, Decay],
    native: Native,
    *,
    lr: Any = 0.05,
    steps: int | None = None,
    **kwargs: Any,
) -> Optimizer:
    """An optimizer of the library with these decays."""
    named = dict(model.named_parameters())
    groups = merged_groups(named, decays, native=native, peak=float(lr), steps=steps)
    return attach(cls(groups, lr=lr, **kwargs))  # type: ignore[call-arg]


class Reference:
    """A stock optimizer with a group for each parameter, and decay written out before its step."""

    def __init__(
        self,
        cls: type[Optimizer],
        model: nn.Module,
        decays: Mapping[str, Decay],
        native: Native,
        *,
        lr: float = 0.05,
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.named = dict(model.named_parameters())
        self.decays, self.native, self.peak, self.steps = decays, native, lr, steps
        groups = [{"params": [p]} for p in self.named.values()]
        self.optimizer = cls(groups, lr=lr, **kwargs)  # type: ignore[call-arg]
        self.param_groups = self.optimizer.param_groups
        self.start: dict[str, Tensor] = {}
        self.due = dict.fromkeys(self.named, 0.0)
        self.taken = dict.fromkeys(self.named, 0)
        self.made = 0

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        self.made += 1
        gradients = {name: p.grad for name, p in self.named.items()}
        with torch.no_grad():
            for group, (name, p) in zip(self.param_groups, self.named.items(), strict=True):
                group["weight_decay"] = 0.0
                if p.grad is not None and self.decays[name].coefficient:
                    self._decay(group, name, p)
        self.optimizer.step()
        for name, p in self.named.items():
            p.grad = gradients[name]
        return loss

    def _decay(self, group: dict[str, Any], name: str, p: nn.Parameter) -> None:
        decay, lr = self.decays[name], float(group["lr"])
        mode = self.native if decay.mode == "native" else decay.mode
        coefficient = decay.coefficient * self._multiplier(decay, lr)
        a = lr * coefficient
        center: Any = decay.center
        if center == "start":
            center = self.start.setdefault(name, p.detach().clone())
        none = not isinstance(center, Tensor) and center == 0
        if decay.share:
            self._gather(decay, name, p, a, center)
        elif mode == self.native:  # the optimizer decays toward 0
            group["weight_decay"] = coefficient
            if none:
                return
            if mode == "coupled":
                self._to_gradient(group, p, _times(center, -coefficient))
            else:
                p.add_(*_times(center, a / (1 - a))[:1], alpha=_times(center, a / (1 - a))[1])
        elif mode == "coupled":
            self._to_gradient(group, p, (p if none else p - center, coefficient))
        elif none:
            p.mul_(1 - a)
        else:
            p.add_(p - center, alpha=-a)

    def _multiplier(self, decay: Decay, lr: float) -> float:
        schedule, step = decay.schedule, self.made - 1
        if schedule.kind == "lr":
            return 1.0
        if schedule.kind == "lr_squared":
            return lr / self.peak
        if schedule.kind == "constant":
            return self.peak / lr if lr else 0.0
        last = (schedule.steps or self.steps or 1) - 1
        done = min(step / last, 1.0)
        left = (1 + math.cos(math.pi * done)) / 2 if schedule.kind == "cosine" else 1 - done
        return schedule.end + (1 - schedule.end) * left

    @staticmethod
    def _to_gradient(group: dict[str, Any], p: nn.Parameter, pull: tuple[Any, float]) -> None:
        assert p.grad is not None
        sign = -1.0 if group.get("maximize") else 1.0
        p.grad = p.grad.add(pull[0], alpha=sign * pull[1])

    def _gather(self, decay: Decay, name: str, p: nn.Parameter, a: float, center: Any) -> None:
        self.due[name] -= math.log1p(-a)
        enough = decay.share * (0.75 + 0.5 * ((self.taken[name] * GOLDEN) % 1.0))
        if self.due[name] >= enough or self.made == self.steps:
            p.add_(p - center, alpha=math.expm1(-self.due[name]))
            self.due[name] = 0.0
            self.taken[name] += 1


def _times(center: Any, factor: float) -> tuple[Any, float]:
    """A tensor and its factor, or a number multiplied out: a sum is rounded once either way."""
    return (center, factor) if isinstance(center, Tensor) else (center * factor, 1.0)
