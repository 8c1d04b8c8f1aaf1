"""Run a reader on one input, and say what it must not do."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, about_file
from tests.support.fuzz.inputs import Files, size, write

SECONDS = 10.0
"""Of CPU time, so that a busy machine makes no hang."""

MEMORY = 500 * 2**20
"""Bytes that an input may take beyond twice its own."""


class Hang(BaseException):
    """An input took too long; no ``except Exception`` catches it."""


class Watch:
    """Notes writes outside a folder and code that is run, by Python's own audit events."""

    def __init__(self) -> None:
        self.folder = ""
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or threading.get_ident() != self.thread:
            return
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pty.spawn"):
            self.seen.append(f"ran code: {event} {str(arguments)[:80]}")
        places: tuple[Any, ...] = ()
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            places = arguments[:1]
        if event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            places = arguments[:1]
        if event in ("os.rename", "os.link", "os.symlink"):
            places = arguments[:2]
        for place in places:
            if isinstance(place, int) or place is None:
                continue
            path = os.path.abspath(os.fsdecode(place))
            if not path.startswith((self.folder, *_ALLOWED)):
                self.seen.append(f"wrote outside: {event} {path[:120]}")

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        self.folder, self.seen, self.thread = os.path.abspath(folder), [], threading.get_ident()
        self.on = True
        try:
            yield self.seen
        finally:
            self.on = False


_ALLOWED = ("/dev/null", "/proc/", f"{tempfile.gettempdir()}/torchinductor_")
"""Places that are no user's; torch makes the last at import."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit_memory(extra: int = 6 * 2**30) -> None:
    """Let this process grow by so many bytes and no more: the machine has other users."""
    now = _of_process("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, resource.RLIM_INFINITY))


def try_one(
    read: Callable[[Path], None], files: Files, folder: Path, watch: Watch
) -> tuple[str, str]:
    """Write an input into a new folder, read it there, and return the verdict and its details.

    Verdicts: ``read``, ``refused``, ``traceback``, ``hang``, ``outside``, ``code``, ``memory``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(files, folder)
    before = os.getcwd()
    os.chdir(folder)
    _forget_peak()
    base = _of_process("VmRSS")
    try:
        with watch.over(folder) as seen, _clock(), _quiet():
            verdict, detail = _outcome(read, folder)
    finally:
        os.chdir(before)
    grown = _of_process("VmHWM") - base
    if (folder / "ran").exists() or any(one.startswith("ran") for one in seen):
        return "code", "; ".join(seen) or "a file named ran"
    if seen:
        return "outside", seen[0]
    if grown > 2 * size(files) + MEMORY and verdict != "hang":
        return "memory", f"{grown / 1e6:,.0f} MB, then {verdict}: {detail[:100]}"
    return verdict, detail


def _outcome(read: Callable[[Path], None], folder: Path) -> tuple[str, str]:
    try:
        read(folder)
    except GammaError as error:
        text = str(error)
        if "\n" in text or not 8 < len(text) < 2_500:
            return "traceback", f"a message of {len(text)} characters or several lines: {text[:90]}"
        return "refused", text
    except OSError as error:
        try:
            return "refused", about_file(error)
        except OSError:
            return "traceback", _where(error)
    except Hang as error:
        return "hang", _where(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return "traceback", _where(error)
    return "read", ""


def _where(error: BaseException) -> str:
    """Return the kind of an exception and the last places of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if re.search(r"/(gamma_nlp|recipes)/", f.filename)] or frames
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in ours[-2:]]
    text = " ".join(str(error).split())[:100]
    return f"{type(error).__name__} at {' > '.join(places)}: {text}"


@contextlib.contextmanager
def _clock() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    caught = warnings.catch_warnings()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), caught:
        warnings.simplefilter("ignore")
        yield


def _of_process(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def _forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
