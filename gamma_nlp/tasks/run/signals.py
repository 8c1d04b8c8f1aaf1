"""Ctrl-C and SIGTERM end a recipe in one line; while it trains they wait for the step's end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from gamma_nlp.errors import print_error

INTERRUPTED, TERMINATED = 130, 143
"""The exit codes after Ctrl-C and after SIGTERM, as shells give them."""

_PATIENCE = 3.0
"""Seconds after the first signal in which others are taken for its echo."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the run is asked to end, as a cluster does before it kills."""


class _Asked:
    """What a signal asked for, and whether this process may finish its step first."""

    error: KeyboardInterrupt | None = None
    may_wait = False


_asked = _Asked()


@contextlib.contextmanager
def signals_raise(*, to_the_end: bool = False) -> Iterator[None]:
    """Raise at Ctrl-C and SIGTERM, once: launchers pass on what the terminal has sent already.

    While a signal :func:`may_wait`, the error is kept for :func:`raise_asked`. A second signal
    ends the process at once.

    Args:
        to_the_end: The process ends after the block, so :func:`end_at_interrupt` holds then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, frame: object) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            error = KeyboardInterrupt() if number == signal.SIGINT else Terminated("terminated")
            if not _asked.may_wait:
                _raise_or_end(error)
            _asked.error = error
            if os.environ.get("RANK", "0") == "0":
                with contextlib.suppress(OSError):
                    print("stopping after this step (again: at once)", file=sys.stderr, flush=True)
        elif now - first[0] > _PATIENCE:  # the user insists
            os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, stop) for kind in kinds]
    try:
        yield
    finally:
        _asked.error, _asked.may_wait = None, False
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
        if to_the_end:
            end_at_interrupt()


def interrupts_raise() -> None:
    """Raise at Ctrl-C, as Python itself does, but end the process at once while torch loads."""
    _instead(lambda number, frame: _raise_or_end(KeyboardInterrupt()))


def end_at_interrupt() -> None:
    """Let Ctrl-C end the process in one line from now on.

    While Python takes modules down at exit, a KeyboardInterrupt would print a traceback.
    """
    _instead(lambda number, frame: _end(KeyboardInterrupt()))


def _instead(handler: Callable[[int, object], None]) -> None:
    """Handle Ctrl-C, unless it is ignored, as in the background of a shell."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if not ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def _raise_or_end(error: KeyboardInterrupt) -> None:
    # An error in what torch's C++ code calls while it is imported would abort with a core dump.
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        _end(error)
    raise error


def _end(error: KeyboardInterrupt) -> NoReturn:
    ended = isinstance(error, Terminated)
    if os.environ.get("RANK", "0") == "0":
        print_error("terminated" if ended else "interrupted")
    os._exit(TERMINATED if ended else INTERRUPTED)


def may_wait(yes: bool) -> None:
    """Say whether a signal may wait for the end of a step."""
    _asked.may_wait = yes


def asked_to_stop() -> bool:
    """Return whether a signal waits."""
    return _asked.error is not None


def raise_asked() -> None:
    """Raise what a signal asked for.

    Raises:
        KeyboardInterrupt: Ctrl-C; of another process, where this one was not asked.
        Terminated: SIGTERM.
    """
    error, _asked.error = _asked.error or KeyboardInterrupt(), None
    _asked.may_wait = False
    raise error
