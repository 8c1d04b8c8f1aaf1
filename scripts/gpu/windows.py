"""Steady speed of anything that trains with a Trainer, whoever makes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import steady
import torch
import transformers
from parts import Settings

QUICK_STEPS, QUICK_WINDOWS = 2, steady.TOGETHER + 1
"""With ``--quick``: the window of the start, which does not count, and three more."""


class Enough(BaseException):
    """Ends a training run that was measured; no `except Exception` on its way takes it."""


@dataclass(kw_only=True)
class Windows(steady.Windows):
    """Windows of one side, and what else its row tells.

    Attributes:
        steps_per_epoch: Of the run that was measured.
        peak: Most bytes that tensors took on the GPU.
    """

    steps_per_epoch: int = 0
    peak: int | None = None


class Clock(steady.Clock):
    """Notes these too, and ends the run at once: without evaluation, scores or a saved model."""

    windows: Windows

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.windows.steps_per_epoch = len(kwargs["train_dataloader"])
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        windows = self.windows
        if not windows.seconds and time.monotonic() > windows.ends:
            windows.steps = self.done + 1  # better a part of a window than nothing; not steady
        super().on_step_end(args, state, control, **kwargs)

    def _close(self, start: int) -> None:
        super()._close(start)
        if torch.cuda.is_initialized():
            self.windows.peak = torch.cuda.max_memory_allocated()

    def end(self, control: Any) -> None:
        raise Enough


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Give the clock to every Trainer that is made inside, whoever makes it."""
    known = [*transformers.trainer.DEFAULT_CALLBACKS, clock]
    with mock.patch.object(transformers.trainer, "DEFAULT_CALLBACKS", known):
        yield


def windows_of(settings: Settings, steps: int) -> Windows:
    """Return empty windows; with ``--quick`` a few short ones are enough."""
    if settings.quick:
        return Windows(steps=QUICK_STEPS, most=QUICK_WINDOWS, ends=settings.ends)
    return Windows(steps=steps, ends=settings.ends)


def measure(windows: Windows, train: Callable[[], Any]) -> Windows:
    """Run ``train`` until its speed is steady, or the time is up."""
    with clocked(Clock(windows)):
        try:
            train()
        except Enough:
            return windows
    if not windows.seconds:
        raise RuntimeError(f"training ended before one window of {windows.steps} steps")
    return windows
