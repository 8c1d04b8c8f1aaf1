"""Call functions that may crash or hang: many calls in worker processes, or one with a deadline.

A worker makes one call after the other. A call that crashes or runs too long costs its own answer
and a new process, nothing else. Arguments and answers travel as one line of JSON each.

``pebble.ProcessPool`` 5.2.3 was tried in place of this module. It does not limit the start of a
process, waits out the whole limit for a call that ends its process with exit code 0, takes 3 s more
to stop a worker that hangs in C, and breaks in a script without ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from gamma_nlp.errors import GammaError, one_line

T = TypeVar("T")

SECONDS = 120.0
"""How long one call may take by default, the start of its process included."""


class NoAnswer(TimeoutError):
    """A call did not return in time."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return what ``function`` returns, or raise what it raises, within a time limit.

    For calls that no timeout of their own covers: an HTTP client's leaves out a name lookup that
    hangs and a reply that trickles. The call runs in a daemon thread, which is left to itself
    when time is up.

    Raises:
        NoAnswer: It took longer.
    """
    answer: Future[T] = Future()

    def call() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # else it would end with the thread, unseen
            answer.set_exception(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer.done():
        raise NoAnswer(f"no answer within {seconds:g} s")
    return answer.result()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The outcome of one call.

    Attributes:
        value: What the function returned, as JSON carries it; ``None`` if there is a problem.
        problem: Why there is no value; empty if there is one.
        missing: Whether the problem is a package that is not installed.
        cut: Whether the call was cut off: it took too long, or its process died.
        seconds: How long the call took.
    """

    value: Any = None
    problem: str = ""
    missing: bool = False
    cut: bool = False
    seconds: float = 0.0


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_jobs() -> int:
    """Return the default number of workers: 2, or 1 on a machine with one CPU."""
    return min(2, os.cpu_count() or 1)


def call_all(
    function: str,
    calls: Sequence[Sequence[Any]],
    *,
    jobs: int | None = None,
    seconds: float = SECONDS,
) -> Iterator[Answer]:
    """Yield the answers in the order of the calls, each as soon as all before it are there.

    Args:
        function: ``module:function``. It takes and returns values that JSON can carry.
        calls: The positional arguments of each call.
        jobs: Number of worker processes; :func:`default_jobs` by default.
        seconds: Time limit for one call.

    Raises:
        GammaError: ``jobs`` is below 1, or ``seconds`` is not above 0.
    """
    return _in_order(call_each(function, calls, jobs=jobs, seconds=seconds))


def call_each(
    function: str,
    calls: Sequence[Sequence[Any]],
    *,
    jobs: int | None = None,
    seconds: float = SECONDS,
) -> Generator[tuple[int, Answer], None, None]:
    """Yield the number of each call with its answer, as the answers come in.

    Arguments and errors are those of :func:`call_all`.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise GammaError(f"--jobs must be at least 1, got {jobs}")
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise GammaError(f"--seconds must be above 0, got {seconds:g}")
    return _as_they_come([Worker(function) for _ in range(min(jobs, len(calls)))], calls, seconds)


def _in_order(answers: Generator[tuple[int, Answer], None, None]) -> Iterator[Answer]:
    early: dict[int, Answer] = {}
    turn = 0
    try:
        for number, answer in answers:
            early[number] = answer
            while turn in early:
                yield early.pop(turn)
                turn += 1
    finally:
        answers.close()


def _as_they_come(
    workers: Sequence[Worker], calls: Sequence[Sequence[Any]], seconds: float
) -> Generator[tuple[int, Answer], None, None]:
    """Let a thread per worker take calls from one queue until none is left."""
    todo = collections.deque(enumerate(calls))
    done: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()

    def work(worker: Worker) -> None:
        while True:
            try:
                number, arguments = todo.popleft()
            except IndexError:
                return
            try:
                done.put((number, worker.call(arguments, seconds)))
            except Exception as error:  # no process could be started, say
                done.put((number, error))

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in calls:
            number, answer = done.get()
            if isinstance(answer, Exception):
                raise answer
            yield number, answer
    finally:
        todo.clear()
        for worker in workers:
            worker.kill()  # cuts off a call whose answer is no longer wanted
        for thread in threads:
            thread.join()
        for worker in workers:
            worker.stop()


class Worker:
    """A process that makes one call after the other; a new one starts when a call ends it."""

    def __init__(self, function: str) -> None:
        self.function = function
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def call(self, arguments: Sequence[Any], seconds: float) -> Answer:
        """Make one call; a problem of the call is part of its answer."""
        start = time.monotonic()
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(seconds, expire)
        timer.start()
        line = ""
        try:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(arguments), file=process.stdin, flush=True)
                line = process.stdout.readline()  # ends early if the process does
        finally:
            timer.cancel()
            timer.join()
        if line.endswith("\n") and not expired.is_set():
            return Answer(**json.loads(line))
        self.stop()
        problem = f"took more than {seconds:g} s" if expired.is_set() else "its process died"
        return Answer(problem=problem, cut=True, seconds=round(time.monotonic() - start, 2))

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gamma_nlp.workers", self.function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                # The function may be in a folder that only this process knows, as in a checkout.
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
        if self._killed:  # by another thread, before there was a process
            self._process.kill()
        return self._process

    def kill(self) -> None:
        """End the process for good; a call in progress returns at once. Safe from any thread."""
        self._killed = True
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the process and close its pipes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def serve(function: str) -> None:
    """Answer each line of arguments from stdin with a line on stdout; what a worker runs."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is not an answer
    warnings.simplefilter("ignore")
    module, _, name = function.partition(":")
    target = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        start = time.monotonic()
        try:
            answer = {"value": target(*json.loads(line))}
        except Exception as error:
            answer = {"problem": _problem(error), "missing": isinstance(error, ImportError)}
        answer["seconds"] = round(time.monotonic() - start, 2)
        print(json.dumps(asdict(Answer(**answer))), file=answers, flush=True)


def _problem(error: Exception) -> str:
    if os.environ.get("GAMMA_NLP_TRACEBACK"):
        return traceback.format_exc()
    text = one_line(error, file=True)
    return text if isinstance(error, GammaError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    serve(sys.argv[1])
