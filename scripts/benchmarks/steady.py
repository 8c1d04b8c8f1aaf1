"""Steady speed: time windows of training steps until three in a row agree, and count those.

:class:`Windows` decides, whoever fills it; :class:`Clock` fills it while a Trainer trains.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from table import now
from transformers import TrainerCallback

AGREE, TOGETHER = 0.05, 3


@dataclass(kw_only=True)
class Windows:
    """Windows of training steps.

    Attributes:
        steps: Of a window.
        most: Give up waiting for a steady speed after so many.
        ends: When to give up at the latest, by :func:`time.monotonic`.
        seconds: Of each window.
        tokens: Of each window; if they are not counted, speeds are steps a second.
    """

    steps: int
    most: int | None = None
    ends: float = float("inf")
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Tokens, or steps, a second of each window."""
        amounts = self.tokens or [self.steps] * len(self.seconds)
        return [one / time for one, time in zip(amounts, self.seconds, strict=True)]

    @property
    def steady(self) -> bool:
        """Whether the last three windows differ by at most 5 %."""
        last = self.speeds[-TOGETHER:]
        return len(last) == TOGETHER and max(last) <= (1 + AGREE) * min(last)

    @property
    def enough(self) -> bool:
        """Whether it is steady, or not worth waiting for any longer."""
        late = time.monotonic() > self.ends
        return self.steady or self._full or (bool(self.seconds) and late)

    @property
    def _full(self) -> bool:
        return self.most is not None and len(self.seconds) >= self.most

    @property
    def counted(self) -> int:
        """How many of the last windows count.

        One alone if the time was up, since the speed was still rising; three if they agree, and of
        a speed that goes up and down as long as it is watched.
        """
        return TOGETHER if self.steady or self._full else 1

    @property
    def counted_seconds(self) -> float:
        """The seconds of the windows that count."""
        return sum(self.seconds[-self.counted :])

    @property
    def counted_steps(self) -> tuple[int, int]:
        """The number of steps before those that count, and with them."""
        made = len(self.seconds)
        return max(made - self.counted, 0) * self.steps, made * self.steps

    @property
    def step(self) -> float:
        """Seconds of a step, of those that count."""
        before, after = self.counted_steps
        return self.counted_seconds / (after - before)

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


class Clock(TrainerCallback):
    """Fills windows while a Trainer trains, and ends it when they suffice.

    Args:
        windows: To fill.
        tokens: Tells how many tokens the steps from one number up to another one had.
        first: Do not end before this step, and note the seconds up to its end.

    Attributes:
        first_seconds: From the making of this clock to the end of step ``first``.
    """

    def __init__(
        self, windows: Windows, tokens: Callable[[int, int], int] | None = None, *, first: int = 0
    ) -> None:
        self.windows, self.tokens, self.first = windows, tokens, first
        self.first_seconds = 0.0
        self.done = 0
        self._made = self._mark = now()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        windows = self.windows
        self.done += 1
        if self.done == self.first:
            self.first_seconds = now() - self._made
        if self.done % windows.steps == 0 and not windows.enough:
            self._close(self.done - windows.steps)
        if windows.enough and self.done >= self.first:
            self.end(control)

    def _close(self, start: int) -> None:
        """End the window that began after step ``start``."""
        end = now()
        self.windows.seconds.append(end - self._mark)
        self._mark = end
        if self.tokens is not None:
            self.windows.tokens.append(self.tokens(start, self.done))

    def end(self, control: Any) -> None:
        """End the training."""
        control.should_training_stop = True
