"""Call functions that may crash or hang: many calls in worker processes, or one with a deadline.

A worker makes one call after the other; a call that crashes or hangs costs its own answer and a
new process, nothing else. Arguments and answers travel as one line of JSON each.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from gamma_nlp.errors import GammaError

T = TypeVar("T")

SECONDS = 120.0
"""How long one call may take, the start of its process included."""


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
    """What came of one call.

    Attributes:
        value: What the function returned, as JSON carries it; ``None`` where there is a problem.
        problem: Why there is no value; empty where there is one.
        missing: The problem is a package that is not installed.
        seconds: How long it took.
    """

    value: Any = None
    problem: str = ""
    missing: bool = False
    seconds: float = 0.0


def default_jobs() -> int:
    """How many workers to use unless told: 2, or 1 on a machine with one CPU."""
    return min(2, os.cpu_count() or 1)


def call_all(
    function: str,
    calls: Sequence[Sequence[Any]],
    *,
    jobs: int | None = None,
    seconds: float = SECONDS,
) -> Iterator[Answer]:
    """Answers in the order of the calls, each as soon as it and all before it are there.

    Args:
        function: ``module:function``. It takes what JSON can carry and returns such a value.
        calls: The positional arguments of each call.
        jobs: How many worker processes; :func:`default_jobs` unless told.
        seconds: How long one call may take.

    Raises:
        GammaError: ``jobs`` below 1, or ``seconds`` that are not above 0.
    """
    pool = _pool(function, len(calls), jobs, seconds)
    return _in_order(pool, calls)


def call_each(
    function: str,
    calls: Sequence[Sequence[Any]],
    *,
    jobs: int | None = None,
    seconds: float = SECONDS,
) -> Iterator[tuple[int, Answer]]:
    """As :func:`call_all`, but each answer as soon as it is there, with the number of its call."""
    pool = _pool(function, len(calls), jobs, seconds)
    return _as_they_come(pool, calls)


Submit = Callable[[Sequence[Any]], "Future[Answer]"]


def _in_order(
    pool: AbstractContextManager[Submit], calls: Sequence[Sequence[Any]]
) -> Iterator[Answer]:
    with pool as submit:
        for future in [submit(call) for call in calls]:
            yield future.result()


def _as_they_come(
    pool: AbstractContextManager[Submit], calls: Sequence[Sequence[Any]]
) -> Iterator[tuple[int, Answer]]:
    with pool as submit:
        futures = {submit(call): i for i, call in enumerate(calls)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _pool(
    function: str, calls: int, jobs: int | None, seconds: float
) -> AbstractContextManager[Submit]:
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise GammaError(f"--jobs must be at least 1, got {jobs}")
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise GammaError(f"--seconds must be above 0, got {seconds:g}")
    return _running([Worker(function) for _ in range(min(jobs, calls))], seconds)


@contextlib.contextmanager
def _running(workers: Sequence[Worker], seconds: float) -> Iterator[Submit]:
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def call(arguments: Sequence[Any]) -> Answer:
        worker = idle.get()  # there are as many threads as workers, so this never waits
        try:
            return worker.call(arguments, seconds)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(max(1, len(workers)))
    try:
        yield lambda arguments: threads.submit(call, arguments)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()  # ends a call that nobody waits for any more
        threads.shutdown()
        for worker in workers:
            worker.stop()


class Worker:
    """A process that makes one call after the other, started again when one brings it down."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader: threading.Thread | None = None

    def call(self, arguments: Sequence[Any], seconds: float) -> Answer:
        """Make one call; a problem of the call is part of its answer."""
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        start = time.monotonic()
        try:
            print(json.dumps(arguments), file=self.process.stdin, flush=True)
            line = self.lines.get(timeout=seconds)
            problem = "its process died" if line is None else ""
        except queue.Empty:
            line, problem = None, f"took more than {seconds:g} s"
        except BrokenPipeError:
            line, problem = None, "its process died"
        if line is not None:
            return Answer(**json.loads(line))
        self.stop()
        return Answer(problem=problem, seconds=round(time.monotonic() - start, 2))

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gamma_nlp.workers", self.function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                # The function may lie where only this process looks, as in a checkout.
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=_read, args=(self.process, self.lines), daemon=True)
        self.reader.start()

    def kill(self) -> None:
        """End the process; a call in progress returns at once. Safe from any thread."""
        process = self.process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the process and close its pipes."""
        if self.process is None or self.reader is None:
            return
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process = None


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def serve(function: str) -> None:
    """Read lines of arguments from stdin and answer each on stdout; what a worker runs."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
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
    text = " ".join(str(error).split())[:300]
    if os.environ.get("GAMMA_NLP_TRACEBACK"):
        return traceback.format_exc()
    return text if isinstance(error, GammaError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    serve(sys.argv[1])
