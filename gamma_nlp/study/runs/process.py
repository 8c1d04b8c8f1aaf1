"""The process of a run: how it starts, and how all of them end when the study is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gamma_nlp
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.study.design.command import started
from gamma_nlp.study.results.study_file import FAILED
from gamma_nlp.study.runs.folder import LOG, Run
from gamma_nlp.tasks.run.lock import sign

LOOK = 0.02
"""Seconds between two looks at the processes."""

PATIENCE = 30.0
"""Seconds in which a run that is asked to end may save what it has."""

Signals = list[tuple[int, float]]
"""The signals that came, and when."""

_ECHO = 1.0
"""Seconds in which a second signal is taken for an echo of the first, as launchers send it."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where runs go.

    Attributes:
        jobs: How many run at a time.
        gpus: The GPUs that they are given in turn, as CUDA_VISIBLE_DEVICES names them; or none.
        threads: CPU threads of each.
    """

    jobs: int
    gpus: tuple[str, ...]
    threads: int


def launch(
    run: Run, machine: Machine, slot: int, lock: int, *, recipe: bool
) -> subprocess.Popen[bytes]:
    """Start a run: from its checkpoint, if it left a whole one, else in an emptied folder.

    Args:
        run: The run.
        machine: Where it goes.
        slot: Which of the runs at a time it is; tells the GPU.
        lock: The lock on its folder, which it inherits.
        recipe: Whether it is a recipe's, which knows ``--resume``.

    Raises:
        GammaError: Its program cannot be started.
    """
    command = started(run.command)
    resumed = recipe and run.can_resume()
    if resumed:
        command.append("--resume")
        (run.folder / FAILED).unlink(missing_ok=True)
    else:
        run.empty()
    with open(run.folder / LOG, "ab" if resumed else "wb") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(machine, slot, recipe),
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for the study, which passes it on
            )
        except OSError as error:
            raise GammaError(f"cannot start {command[0]!r}: {one_line(error)}") from error
    sign(lock, process.pid)
    return process


def _environment(machine: Machine, slot: int, recipe: bool) -> dict[str, str]:
    found = {**os.environ, "OMP_NUM_THREADS": str(machine.threads)}
    found["PYTHONUNBUFFERED"] = "1"  # a log that is cut off ends where the run did
    if recipe:  # also where this package is in a folder that only this process knows
        home = str(Path(gamma_nlp.__file__).parent.parent)
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (home, found.get("PYTHONPATH"))))
    if machine.gpus:
        found["CUDA_VISIBLE_DEVICES"] = machine.gpus[slot % len(machine.gpus)]
    return found


def end_all(processes: Sequence[subprocess.Popen[bytes]], signals: Signals) -> None:
    """Ask runs to end and wait for them; end them after a while, or at a second signal."""
    _signal_all(processes, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes):
        if time.monotonic() > until or any(at > signals[0][1] + _ECHO for _, at in signals):
            _signal_all(processes, signal.SIGKILL)
        time.sleep(LOOK)
    _signal_all(processes, signal.SIGKILL)  # what they started and left behind


def _signal_all(processes: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note signals instead of ending at once, so that no run is left in a state between two."""
    noted: Signals = []
    before: Mapping[signal.Signals, Any] = {
        kind: signal.signal(kind, lambda number, frame: noted.append((number, time.monotonic())))
        for kind in _STOPS
        if signal.getsignal(kind) != signal.SIG_IGN  # as nohup sets it
    }
    try:
        yield noted
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
