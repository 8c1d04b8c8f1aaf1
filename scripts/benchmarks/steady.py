"""Time a training run once its speed is steady, and its first steps as a user lives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from table import now
from transformers import TrainerCallback

ALIKE, IN_A_ROW = 1.05, 3


class SteadyClock(TrainerCallback):
    """Times windows of steps, and ends a run when three in a row have one speed within 5 %.

    Args:
        window: Steps of a window.
        most: The most windows; the last three count then, steady or not.
        tokens: Tells how many tokens the steps from one number up to another one had.
        first: Do not end before this step, and note the seconds up to its end.

    Attributes:
        seconds: Of each window.
        speeds: Tokens per second of each window.
        first_seconds: From the making of this clock to the end of step ``first``.
    """

    def __init__(
        self, window: int, most: int, tokens: Callable[[int, int], int], *, first: int = 0
    ) -> None:
        self.window, self.most, self.tokens, self.first = window, max(most, IN_A_ROW), tokens, first
        self.seconds: list[float] = []
        self.speeds: list[float] = []
        self.first_seconds = 0.0
        self.end = 0
        self._made = self._mark = now()

    @property
    def steady(self) -> bool:
        """Whether the windows that count agree."""
        return self.end > 0

    @property
    def last(self) -> int:
        """The window after those that count."""
        return self.end or len(self.speeds)

    @property
    def steps(self) -> tuple[int, int]:
        """The first step that counts, and the one after the last."""
        return (self.last - IN_A_ROW) * self.window, self.last * self.window

    @property
    def counted(self) -> float:
        """The seconds of the windows that count."""
        return sum(self.seconds[self.last - IN_A_ROW : self.last])

    def most_steps(self) -> int:
        """Return how many steps a run may need."""
        return max(self.most * self.window, self.first)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._mark = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        if step == self.first:
            self.first_seconds = now() - self._made
        if step % self.window == 0 and not self.steady:
            time = now()
            self.seconds.append(time - self._mark)
            self.speeds.append(self.tokens(step - self.window, step) / self.seconds[-1])
            self._mark = time
            recent = self.speeds[-IN_A_ROW:]
            if len(recent) == IN_A_ROW and max(recent) <= ALIKE * min(recent):
                self.end = len(self.speeds)
        done = self.steady or len(self.speeds) >= self.most
        if done and step >= self.first:
            control.should_training_stop = True
