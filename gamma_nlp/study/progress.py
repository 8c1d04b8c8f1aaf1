"""One display of how far a study is: a line rewritten in place, or a line for each run."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

_EVERY = 1.0
"""Seconds between two versions of the line on a terminal."""


def clock(seconds: float) -> str:
    """Return a duration in words.

    >>> clock(40), clock(260), clock(9000), clock(400_000)
    ('40 s', '4.3 min', '2.5 h', '4.6 days')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.1f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def time_left(
    durations: Sequence[float], *, waiting: int, running: Sequence[float], jobs: int
) -> float | None:
    """Estimate the seconds until all runs are done; ``None`` before the first is.

    Args:
        durations: Seconds that finished runs took.
        waiting: How many runs have not started.
        running: Seconds since each of the others started.
        jobs: How many run at a time.

    >>> time_left([10.0, 14.0], waiting=3, running=[4.0], jobs=2)
    24.0
    """
    if not durations:
        return None
    mean = sum(durations) / len(durations)
    left = [max(mean - elapsed, 0.0) for elapsed in running] + [mean] * waiting
    ends = [0.0] * min(jobs, max(len(left), 1))
    for seconds in left:  # each goes to the slot that is free first
        first = ends.index(min(ends))
        ends[first] += seconds
    return max(ends)


class Progress:
    """Shows how far a study is.

    Attributes:
        total: How many runs there are.
        done: How many of them are finished.
        failed: How many failed.
    """

    def __init__(self, total: int, done: int, out: TextIO | None = None) -> None:
        self.total, self.done, self.failed = total, done, 0
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty()
        self._shown_at = 0.0
        self._line = ""

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(text, file=self._out, flush=True)
        self._shown_at = 0.0

    def ended(self, what: str, left: float | None, *, stays: bool = False) -> None:
        """Tell that a run ended: a line of its own, where none is rewritten in place."""
        count = self.done + self.failed
        end = f" (about {clock(left)} left)" if left is not None and count < self.total else ""
        if stays or not self._live:
            self.say(f"[{count:{len(str(self.total))}}/{self.total}] {what}{end}")

    def show(self, running: int, left: float | None) -> None:
        """Renew the line on a terminal; elsewhere do nothing."""
        now = time.monotonic()
        if not self._live or now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        waiting = self.total - self.done - self.failed - running
        failed = f", {self.failed} failed" if self.failed else ""
        end = (
            "time left: known after the first run" if left is None else f"about {clock(left)} left"
        )
        text = f"{self.done}/{self.total} done{failed}, {running} running, {waiting} waiting, {end}"
        self._clear()
        self._line = text[: shutil.get_terminal_size().columns - 1]
        print(self._line, end="", file=self._out, flush=True)

    def close(self) -> None:
        """Take the line away."""
        self._clear()
        self._out.flush()

    def _clear(self) -> None:
        if self._line:
            print("\r" + " " * len(self._line) + "\r", end="", file=self._out)
            self._line = ""
