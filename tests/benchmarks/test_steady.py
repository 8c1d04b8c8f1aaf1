"""A run is timed once three windows in a row have one speed, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def train(clock: Any, steps: int = 99) -> int:
    """Take steps until the clock ends the run; return how many."""
    control = SimpleNamespace(should_training_stop=False)
    clock.on_train_begin(None, None, control)
    for step in range(1, steps + 1):
        clock.on_step_end(None, None, control)
        if control.should_training_stop:
            return step
    return steps


def clocked(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, costs: list[float], **options: int
) -> tuple[Any, int]:
    """Return the windows of a run whose steps of 10 tokens take ``costs``, and where it ended."""
    times: Iterator[float] = iter([0.0, 100.0, *(100 + sum(costs[:n]) for n in range(1, 99))])
    monkeypatch.setattr(benchmark, "now", times.__next__)
    windows = benchmark.Windows(steps=1, most=8)
    clock = benchmark.Clock(windows, lambda start, stop: 10 * (stop - start), **options)
    return windows, train(clock)


def test_slow_first_steps_are_left_out(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, end = clocked(benchmark, monkeypatch, [9, 5, 2, 1.04, 1, 1.02, 9, 9])
    assert end == 6 and windows.steady and windows.counted_steps == (3, 6)
    assert windows.counted_seconds == pytest.approx(3.06)


def test_a_speed_that_never_settles_is_told_from_one_that_does(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, end = clocked(benchmark, monkeypatch, [1, 2, 1, 2, 1, 2, 1, 2])
    assert end == 8 and not windows.steady
    assert windows.counted_steps == (5, 8) and windows.counted_seconds == pytest.approx(5)


def test_speeds_agree_where_longer_windows_have_more_tokens(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "now", iter([0, 0, 1, 3, 6, 10]).__next__)
    windows = benchmark.Windows(steps=1)
    assert train(benchmark.Clock(windows, lambda start, stop: 7 * stop)) == 3
    assert windows.speeds == [7, 7, 7] and windows.step == 2


def test_the_first_steps_are_timed_from_the_making_of_the_clock(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "now", iter(range(0, 1000, 10)).__next__)
    windows = benchmark.Windows(steps=2, most=3)
    clock = benchmark.Clock(windows, lambda start, stop: 10, first=9)
    assert train(clock) == 9
    assert clock.first_seconds == 50  # made, begun, three windows, and then step 9
    assert windows.counted_steps == (0, 6)
