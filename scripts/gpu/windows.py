"""Steady speed: train until three windows of steps in a row agree, and count only those."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import transformers
from parts import Settings
from table import now

AGREE, TOGETHER = 0.05, 3


class Enough(BaseException):
    """Ends a training run that was measured; no `except Exception` on its way takes it."""


@dataclass(kw_only=True)
class Windows:
    """Seconds of windows of steps.

    Attributes:
        steps: Of a window.
        ends: When to give up waiting for a steady speed, by :func:`time.monotonic`.
        seconds: Of each window.
        steps_per_epoch: Of the run that was measured.
        peak: Most bytes that tensors took on the GPU.
    """

    steps: int
    ends: float = float("inf")
    seconds: list[float] = field(default_factory=list)
    steps_per_epoch: int = 0
    peak: int | None = None

    @property
    def steady(self) -> bool:
        """Whether the last three windows differ by at most 5 %."""
        last = self.seconds[-TOGETHER:]
        return len(last) == TOGETHER and max(last) <= (1 + AGREE) * min(last)

    @property
    def enough(self) -> bool:
        return self.steady or (bool(self.seconds) and time.monotonic() > self.ends)

    @property
    def step(self) -> float:
        """Seconds of a step: the mean of the last three windows if they agree, else of the last."""
        last = self.seconds[-TOGETHER if self.steady else -1 :]
        return sum(last) / (len(last) * self.steps)

    def told(self) -> str:
        """Return how the speed became steady, or that it did not."""
        ms = ", ".join(f"{1e3 * one / self.steps:.3g}" for one in self.seconds[:12])
        more = ", ..." if len(self.seconds) > 12 else ""
        if not self.steady:
            return f"NOT steady after {sum(self.seconds):.0f} s: windows of {ms}{more} ms a step"
        before = self.seconds[:-TOGETHER]
        return (
            f"steady after {len(before) * self.steps} steps, {sum(before):.1f} s; windows of "
            f"{self.steps} steps: {ms}{more} ms a step"
        )


class Clock(transformers.TrainerCallback):
    """Fills windows while a Trainer trains, and ends it when they suffice."""

    def __init__(self, windows: Windows) -> None:
        self.windows, self.start, self.done = windows, 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.windows.steps_per_epoch = len(kwargs["train_dataloader"])
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.start = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.done += 1
        late = time.monotonic() > self.windows.ends > 0 and not self.windows.seconds
        if late:  # better a first part of a window than nothing; it is told as not steady
            self.windows.steps = self.done
        if self.done % self.windows.steps:
            return
        end = now()
        self.windows.seconds.append(end - self.start)
        self.start = end
        if args.device.type == "cuda":
            self.windows.peak = torch.cuda.max_memory_allocated()
        if self.windows.enough:
            raise Enough


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Give the clock to every Trainer that is made inside, whoever makes it."""
    known = [*transformers.trainer.DEFAULT_CALLBACKS, clock]
    with mock.patch.object(transformers.trainer, "DEFAULT_CALLBACKS", known):
        yield


def windows_of(settings: Settings, steps: int) -> Windows:
    """Return empty windows; with ``--quick`` the first one, of two steps, is enough."""
    return (
        Windows(steps=2, ends=0.0) if settings.quick else Windows(steps=steps, ends=settings.ends)
    )


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
