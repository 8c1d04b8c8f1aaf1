"""Run what a study has to run: each run in a process of its own, some at a time.

Finished runs are kept, failed ones keep their log and do not stop the rest. A run that a killed
study left behind is waited for; one that was cut off goes on from its checkpoint, or anew.
"""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.metric import Metric, NoScore
from gamma_nlp.study.results.study_file import FAILED
from gamma_nlp.study.runs.folder import LOCK, Run, has_score, how_it_ended
from gamma_nlp.study.runs.process import (
    LOOK,
    PATIENCE,
    Machine,
    Signals,
    end_all,
    launch,
    noted_signals,
)
from gamma_nlp.study.runs.progress import Progress, time_left
from gamma_nlp.study.statistics.sentence import count
from gamma_nlp.tasks.run.lock import holder, take


@dataclass(kw_only=True)
class Ended:
    """How it went.

    Attributes:
        failed: The runs that failed, with the reason.
        stopped: The signal that stopped the study, or ``None``.
        seconds: Wall time.
        busy: The seconds that runs took together.
    """

    failed: dict[str, str] = field(default_factory=dict)
    stopped: int | None = None
    seconds: float = 0.0
    busy: float = 0.0


@dataclass(kw_only=True)
class _Active:
    """A run that is in progress; ``process`` is ``None`` where another study started it."""

    run: Run
    slot: int
    process: subprocess.Popen[bytes] | None
    since: float


def run_all(
    runs: Sequence[Run], machine: Machine, metric: Metric, *, recipe: bool, keep_failed: bool
) -> Ended:
    """Run what is not finished, in order; return when all is done or a signal stops it.

    Args:
        runs: All runs of the study.
        machine: Where they go.
        metric: What each run's results have to hold.
        recipe: Whether runs continue with ``--resume``.
        keep_failed: Leave runs alone that failed before.

    Raises:
        GammaError: The first runs of two cells lack the metric: no other would have it.
    """
    todo = [run for run in runs if not has_score(run, metric)]
    if len(todo) == len(runs) and (odd := [run for run in runs if run.is_finished()]):
        with contextlib.suppress(NoScore):
            metric.value(odd[0].finished() or {}, odd[0].results)
    for run in set(runs) - set(todo):  # a metric that was put right may have made it one
        (run.folder / FAILED).unlink(missing_ok=True)
    kept = {run: why for run in todo if keep_failed and (why := run.failure()) is not None}
    progress = Progress(len(runs), len(runs) - len(todo))
    progress.failed = len(kept)
    for run in todo:
        if run.failure() is None and (problem := run.problem()) is not None:
            progress.say(f"{run} is run again: {problem}")
    work = _Work(runs, [run for run in todo if run not in kept], machine, metric, recipe, progress)
    work.scored = len(todo) < len(runs)
    work.ended.failed = {str(run): why for run, why in kept.items()}
    start = time.monotonic()
    try:
        with noted_signals() as signals:
            work.go(signals)
    finally:
        progress.close()
        work.ended.seconds = time.monotonic() - start
    return work.ended


class _Work:
    """The loop: start what there is room for, look at what runs, until nothing is left."""

    def __init__(
        self,
        runs: Sequence[Run],
        todo: Sequence[Run],
        machine: Machine,
        metric: Metric,
        recipe: bool,
        progress: Progress,
    ) -> None:
        self.todo = collections.deque(todo)
        self.machine, self.metric, self.recipe, self.progress = machine, metric, recipe, progress
        self.active: list[_Active] = []
        self.ended = Ended()
        self.durations = [s for run in runs if run not in todo and (s := run.seconds())]
        self.scored = False
        self.without: set[str] = set()

    def go(self, signals: Signals) -> None:
        try:
            while self.todo or self.active:
                while self.todo and len(self.active) < self.machine.jobs and not signals:
                    self._start(self.todo.popleft())
                if signals:
                    break
                for active in [one for one in self.active if self._is_over(one)]:
                    self.active.remove(active)
                    self._judge(active)
                self.progress.show(len(self.active), self._left())
                if self.active:
                    time.sleep(LOOK)
        finally:
            if self.active:
                self._stop(signals)
        self.ended.stopped = signals[0][0] if signals else None

    def _start(self, run: Run) -> None:
        lock = take(run.folder / LOCK)
        slot = min(set(range(self.machine.jobs)) - {active.slot for active in self.active})
        now = time.monotonic()
        if lock is None:
            who = holder(run.folder / LOCK)
            self.progress.say(f"{run} runs already ({who}, of a study that was cut off): waiting")
            self.active.append(_Active(run=run, slot=slot, process=None, since=now))
            return
        try:
            if has_score(run, self.metric):  # meanwhile, by a process of a study that was cut off
                self._finished(run, None)
                return
            process = launch(run, self.machine, slot, lock, recipe=self.recipe)
        finally:
            os.close(lock)  # the run itself holds it from now on
        self.active.append(_Active(run=run, slot=slot, process=process, since=now))

    def _is_over(self, active: _Active) -> bool:
        if active.process is not None:
            return active.process.poll() is not None
        lock = take(active.run.folder / LOCK)
        if lock is not None:
            os.close(lock)
        return lock is not None

    def _judge(self, active: _Active) -> None:
        run, seconds = active.run, time.monotonic() - active.since
        code = None if active.process is None else active.process.returncode
        self.ended.busy += seconds
        try:
            results = run.finished()
        except GammaError as error:
            self._failed(run, code, str(error), seconds)
            return
        if results is not None:
            self._finished(run, seconds, code)
        elif code is None:  # it was cut off as well
            self.todo.appendleft(run)
        else:
            self._failed(run, code, how_it_ended(run, code), seconds)

    def _finished(self, run: Run, seconds: float | None, code: int | None = 0) -> None:
        results = run.finished()
        assert results is not None
        try:
            value = self.metric.value(results, run.results)
        except GammaError as error:
            self.without.add(run.cell)
            if not self.scored and not isinstance(error, NoScore) and len(self.without) > 1:
                raise  # a metric that no run has
            self._failed(run, code, str(error), seconds or 0.0)
            return
        self.scored = True
        self.progress.done += 1
        taken = seconds if seconds is not None else run.seconds()
        if taken is not None:
            self.durations.append(taken)
        text = f"{run}: {self.metric.shown(value)}"
        text += f" in {seconds:.1f} s" if seconds is not None else ""
        if code:
            text += f"; it ended with exit code {code} after writing its results, see {run.folder}"
        self.progress.ended(text, self._left(), stays=bool(code))

    def _failed(self, run: Run, code: int | None, reason: str, seconds: float) -> None:
        run.fail(code, reason, seconds)
        self.ended.failed[str(run)] = reason
        self.progress.failed += 1
        self.progress.ended(f"{run} failed: {reason}", self._left(), stays=True)

    def _left(self) -> float | None:
        now = time.monotonic()
        running = [now - active.since for active in self.active]
        return time_left(
            self.durations, waiting=len(self.todo), running=running, jobs=self.machine.jobs
        )

    def _stop(self, signals: Signals) -> None:
        """Ask the runs to end, and end those that do not."""
        here = [one.process for one in self.active if one.process is not None]
        if here:
            self.progress.say(
                f"stopping {count(len(here), 'run')}: {PATIENCE:.0f} s to save what there is "
                "(again: at once)"
            )
            end_all(here, signals)
