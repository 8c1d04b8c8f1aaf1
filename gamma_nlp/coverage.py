"""Place the gains of every text model type of transformers, each on a small model.

The types are the keys of the causal-LM, sequence-to-sequence, masked-LM and classification
mappings. A worker process handles one model class after the other; a model that crashes or hangs
costs its own result and a new worker, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from gamma_nlp.categorize import categorize
from gamma_nlp.errors import GammaError
from gamma_nlp.gains import GainTable

SECONDS = 120.0
"""How long one model class may take."""

AGREES = "agrees"
NOT_CHECKED = "not checked"


def no_check(model: nn.Module, inputs: Any, table: GainTable) -> str:
    """Stands in for a numeric check; see :data:`CHECK`."""
    return NOT_CHECKED


CHECK: Callable[[nn.Module, Any, GainTable], str] = no_check
"""Checks a table on a model and its inputs; ``agrees``, ``not checked``, or what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out for one model class.

    Attributes:
        type: The model type.
        model: The class.
        problem: Why there are no gains; empty where there are.
        missing: The problem is a package that is not installed.
        gains: Name, category (``None``: unused), kind and offset of each gain.
        source: ``graph`` or ``table+graph``.
        table: ``agrees``, ``none`` (no table for this model), or what differs.
        check: What the numeric check says.
        seconds: How long it took.
    """

    type: str
    model: str
    problem: str = ""
    missing: bool = False
    gains: list[tuple[str, str | None, str, float]] = field(default_factory=list)
    source: str = ""
    table: str = ""
    check: str = ""
    seconds: float = 0.0

    @property
    def covered(self) -> bool:
        """Every gain is placed, and nothing contradicts it."""
        return (
            not self.problem
            and self.table in (AGREES, "none")
            and self.check in (AGREES, NOT_CHECKED)
        )

    @property
    def contradicted(self) -> bool:
        """The table or the numeric check disagrees with the graph."""
        return not self.problem and not self.covered

    def counts(self) -> Counter[str]:
        """Gains per ``category kind``, with the offset where it is not 0."""
        return Counter(
            f"{category or 'unused'} {kind}" + (f"+{offset:g}" if offset else "")
            for _, category, kind, offset in self.gains
        )

    def __str__(self) -> str:
        head = f"{self.type} {self.model}"
        if self.problem:
            return f"{head}: not covered: {self.problem}"
        order = sorted(self.counts().items())
        counts = ", ".join(f"{what} {count}" for what, count in order) or "no gains"
        wrong = "".join(
            f"; {what}: {verdict}"
            for what, verdict in (("table", self.table), ("probe", self.check))
            if verdict not in (AGREES, "none", NOT_CHECKED)
        )
        return f"{head} [{self.source}]: {counts}{wrong}"


def cover(model_type: str, class_name: str) -> Result:
    """Build one small model, place its gains by every source there is, and compare."""
    from gamma_nlp import small_inputs, small_models

    start = time.monotonic()
    model = small_models.build(model_type, class_name)
    inputs = small_inputs.inputs(model_type, model)
    graph = categorize(model, inputs, method="graph")
    try:
        by_table = categorize(model, method="table")
    except GammaError:
        agreement, source = "none", "graph"
    else:
        agreement, source = _agreement(by_table, graph), "table+graph"
    return Result(
        type=model_type,
        model=class_name,
        gains=[(g.name, g.category and str(g.category), g.kind, g.offset) for g in graph],
        source=source,
        table=agreement,
        check=CHECK(model, inputs, graph),
        seconds=round(time.monotonic() - start, 2),
    )


def _agreement(table: GainTable, graph: GainTable) -> str:
    one = {gain.name: (gain.category, gain.offset) for gain in table}
    two = {gain.name: (gain.category, gain.offset) for gain in graph if gain.category}
    unused = {gain.name for gain in graph if not gain.category}
    names = [name for name in {**one, **two} if name not in unused]
    wrong = [name for name in names if one.get(name) != two.get(name)]
    return f"differs on {wrong[0]!r}" if wrong else AGREES


def sweep(types: Iterable[str] | None = None, seconds: float = SECONDS) -> Iterator[Result]:
    """Cover the classes of these types, by default of all, as results come in.

    Raises:
        GammaError: A type that transformers does not list.
    """
    from gamma_nlp import small_models

    known = small_models.text_types()
    chosen = list(known if types is None else types)
    for model_type in chosen:
        if model_type not in known:
            raise GammaError(
                f"{model_type!r} is no text model type of this transformers; see "
                "gamma_nlp.small_models.text_types()"
            )
    worker = _Worker()
    try:
        for model_type in chosen:
            for class_name in known[model_type]:
                yield worker.cover(model_type, class_name, seconds)
    finally:
        worker.stop()


class _Worker:
    """A process that covers one class after the other, started again when one brings it down."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str | None] = queue.Queue()
        self.reader: threading.Thread | None = None

    def cover(self, model_type: str, class_name: str, seconds: float) -> Result:
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        start = time.monotonic()
        try:
            print(model_type, class_name, file=self.process.stdin, flush=True)
            answer = self.answers.get(timeout=seconds)
            problem = "its process died" if answer is None else ""
        except queue.Empty:
            answer, problem = None, f"took more than {seconds:g} s"
        except BrokenPipeError:
            answer, problem = None, "its process died"
        if answer is not None:
            data = json.loads(answer)
            data["gains"] = [tuple(row) for row in data["gains"]]
            return Result(**data)
        self.stop()
        return Result(
            type=model_type,
            model=class_name,
            problem=problem,
            seconds=round(time.monotonic() - start, 2),
        )

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gamma_nlp.coverage"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        self.answers = queue.Queue()
        self.reader = threading.Thread(target=_read, args=(self.process, self.answers), daemon=True)
        self.reader.start()

    def stop(self) -> None:
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


def _read(process: subprocess.Popen[str], answers: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(line)
    answers.put(None)


def _serve() -> None:
    """Read ``type class`` lines and answer each with a result as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        model_type, class_name = line.split()
        start = time.monotonic()
        try:
            result = cover(model_type, class_name)
        except Exception as error:
            result = Result(
                type=model_type,
                model=class_name,
                problem=_problem(error),
                missing=isinstance(error, ImportError),
                seconds=round(time.monotonic() - start, 2),
            )
        print(json.dumps(asdict(result)), file=answers, flush=True)


def _problem(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if os.environ.get("GAMMA_NLP_TRACEBACK"):
        return traceback.format_exc()
    return text if isinstance(error, GammaError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    _serve()
