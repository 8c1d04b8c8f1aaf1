"""An optimizer's step, step hook included, as a recording whose learning rates stay live.

Schedulers write plain numbers into ``param_groups``, and a recording would keep those of the day.
So during the step, and only then, each group's rate is a tensor that stays in its place and is set
anew before every step. What else a group says is part of the recording's key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from gamma_nlp.decay.group_keys import PROGRESS_KEYS
from gamma_nlp.decay.step_hook import StepHook, check_shares
from gamma_nlp.decay.untrained import Watch
from gamma_nlp.errors import listed
from gamma_nlp.hf.graphs.capture import Capture
from gamma_nlp.hf.graphs.repeated import CannotRecord, Inputs, Repeated

logger = logging.getLogger("gamma_nlp")

_KEYS_APART = frozenset({"params", "param_names", "initial_lr", *PROGRESS_KEYS})
_MOST = 4


class RepeatedStep:
    """Stands for ``optimizer.step``.

    Args:
        optimizer: Not wrapped.
        capture: How to record.
        key: What the step depends on besides the groups.
    """

    def __init__(self, optimizer: Optimizer, capture: Capture, key: Callable[[], Hashable]) -> None:
        self.optimizer, self.capture, self.key = optimizer, capture, key
        self.usual = optimizer.step
        if hasattr(self.usual, "_wrapped_by_lr_sched"):  # else torch's schedulers warn
            self._wrapped_by_lr_sched = True
        self._repeated: Repeated[None] = Repeated(
            self._step, capture, most=_MOST, on_full=self._say_full
        )
        self._ran = self._usual_only = False
        self._rates: dict[tuple[int, torch.device], torch.Tensor] = {}
        self._watches = [
            hook for hook in optimizer._optimizer_step_post_hooks.values() if type(hook) is Watch
        ]
        if capture.on_gpu:
            _move_counts(optimizer)

    def __call__(self, closure: Any = None) -> Any:
        if closure is not None or self._usual_only:
            return self.usual(closure)
        check_shares(self.optimizer)
        groups = self.optimizer.param_groups
        self._ran = False
        try:
            with self._live(groups):
                self._repeated({}, key=(self.key(), *map(_settings, groups)))
        except CannotRecord as error:
            logger.warning("graphs: the optimizer's step runs as usual, since %s", error)
            self._usual_only = True
            return self.usual()
        if not self._ran:  # a replay runs no hook
            for watch in self._watches:
                watch(self.optimizer, (), {})
        return None

    def _step(self, inputs: Inputs) -> None:
        self._ran = True
        self.usual()

    def _say_full(self) -> None:
        logger.warning(
            "graphs: settings of the optimizer have changed %d times, so its step runs as usual "
            "from here on",
            _MOST,
        )

    @contextmanager
    def _live(self, groups: list[dict[str, Any]]) -> Iterator[None]:
        """Put tensors in place of the learning rates; an optimizer on a GPU may be recorded."""
        replaced = ("lr", "capturable")
        before: list[dict[str, Any]] = [
            {key: group[key] for key in replaced if key in group} for group in groups
        ]
        for number, group in enumerate(groups):
            if group["params"]:
                group["lr"] = self._rate(number, group)
            if self.capture.on_gpu:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _rate(self, number: int, group: dict[str, Any]) -> torch.Tensor:
        device, rate = group["params"][0].device, group["lr"]
        if isinstance(rate, torch.Tensor) and rate.device == device:
            return rate
        if (number, device) not in self._rates:
            # A GPU's fused kernels read single precision; a CPU's take the number itself.
            dtype = torch.float32 if self.capture.on_gpu else torch.float64
            self._rates[number, device] = torch.empty((), dtype=dtype, device=device)
        return self._rates[number, device].fill_(float(rate))


def _settings(group: dict[str, Any]) -> Hashable:
    return tuple(
        (key, id(value) if isinstance(value, torch.Tensor) else repr(value))
        for key, value in group.items()
        if key not in _KEYS_APART
    )


def _move_counts(optimizer: Optimizer) -> None:
    """Move the counts of steps that were made before beside their parameters."""
    for p, state in optimizer.state.items():
        count = state.get("step")
        if isinstance(count, torch.Tensor) and count.device != p.device:
            state["step"] = count.to(p.device)


def why_not_step(optimizer: Optimizer, *, on_gpu: bool) -> str | None:
    """Return why an optimizer's step cannot be recorded, or ``None``."""
    name = type(optimizer).__name__
    if on_gpu and not all("capturable" in group for group in optimizer.param_groups):
        return f"torch has no capturable {name}"
    counted = [g for g in optimizer.param_groups if "gamma_schedule" in g]
    if counted:
        return (
            f"the decay of {listed(counted[0]['param_names'])} follows the schedule "
            f"{counted[0]['gamma_schedule']!r}, which is computed at each step"
        )
    hooks = [
        *optimizer._optimizer_step_pre_hooks.values(),
        *optimizer._optimizer_step_post_hooks.values(),
        *_global_optimizer_pre_hooks.values(),
        *_global_optimizer_post_hooks.values(),
    ]
    for hook in hooks:
        own = type(getattr(hook, "__self__", hook))
        if own not in (StepHook, Watch):
            called = getattr(hook, "__qualname__", own.__name__)
            return f"the step hook {called} would run once and never again"
    return None
