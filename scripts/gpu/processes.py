"""A part runs in a forked process: what this one imported is there, and nothing else is shared.

At its limit it is killed with all that it started. Rows written until then are kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parts import Part, Settings, fresh_words, perform

LOOK = 0.02
"""Seconds between two looks at a process."""

SPARE = 2.0
"""Seconds before its limit at which a part is told to end by itself."""

_DEATH_SIGNAL, _SUBREAPER = 1, 36  # of prctl(2)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a part ended: its rows, its state, why, and the seconds it took."""

    rows: list[dict[str, Any]]
    state: str
    why: str
    seconds: float


def run_part(part: Part, settings: Settings, limit: float, log: Path) -> Ended:
    """Run a part for at most ``limit`` seconds; its output is appended to ``log``."""
    path = Path(settings.work) / "rows.jsonl"
    path.unlink(missing_ok=True)
    start = time.monotonic()
    _prctl(_SUBREAPER, 1)  # what a part leaves behind becomes ours, whoever started it
    others = _descendants(os.getpid())
    settings = replace(settings, ends=start + max(limit - SPARE, limit / 2))
    pid = _fork(part, settings, path, log)
    code = None
    try:
        while code is None and time.monotonic() - start < limit:
            time.sleep(LOOK)
            ended, status = os.waitpid(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
    finally:
        _kill(pid, others)
    seconds = time.monotonic() - start
    rows, state, why = _read(path)
    if code is None:
        state, why = "stopped", f"at its limit of {limit:.0f} s"
    elif not state:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        state, why = "failed", f"the process ended with {name}"
    return Ended(rows=rows, state=state, why=why, seconds=seconds)


def _fork(part: Part, settings: Settings, path: Path, log: Path) -> int:
    """Start the process of a part and return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads are idle here
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
        print(f"\n== {part.name}", flush=True)
        if settings.cuda and _is_spoilt():
            words = fresh_words(part, settings, path)
            os.execv(sys.executable, [sys.executable, os.path.dirname(__file__), *words])
        code = perform(part, settings, path)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _is_spoilt() -> bool:
    """Return whether an import of the parent started CUDA, so that no child can use it."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda._is_in_bad_fork())


def _read(path: Path) -> tuple[list[dict[str, Any]], str, str]:
    rows: list[dict[str, Any]] = []
    state = why = ""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:  # the line in which the process was killed
            continue
        if "row" in content:
            rows.append(content["row"])
        else:
            state, why = content["state"], content["why"]
    return rows, state, why


def _kill(pid: int, others: set[int]) -> None:
    """Kill a part and everything that came into being since it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for _ in range(100):
        left = (_descendants(os.getpid()) | {pid}) - others
        alive = [one for one in left if not _reaped(one)]
        if not alive:
            return
        for one in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.01)


def _reaped(pid: int) -> bool:
    """Return whether a process is gone; collect it if it is a dead child of ours."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # a grandchild, or gone already
        return not Path(f"/proc/{pid}").exists()


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            parents[int(entry.parent.name)] = int(after_name.split()[1])
    found = {pid}
    while more := {child for child, of in parents.items() if of in found} - found:
        found |= more
    return found - {pid}


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
