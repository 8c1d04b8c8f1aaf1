"""One run of a study: its folder, whether it is finished, and the lock of whoever runs it.

A run holds the lock on its folder itself, through a file that it inherits open, and not the study.
So a run that outlives a killed study is still seen to run, and no kill leaves a lock behind.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json
from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.results.study_file import FAILED, RESULTS
from gamma_nlp.tasks.run.checkpoints import last_checkpoint

LOG, LOCK = "run.log", "run.lock"
_TAIL = 16_384


@dataclass(frozen=True, kw_only=True)
class Run:
    """A cell's run with one seed.

    Attributes:
        cell: The cell's name.
        seed: The seed.
        folder: The run's folder.
        command: What is started, as one would type it.
    """

    cell: str
    seed: int
    folder: Path
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.cell} seed {self.seed}"

    @property
    def results(self) -> Path:
        return self.folder / RESULTS

    def finished(self) -> Mapping[str, Any] | None:
        """Return the results of a run that is finished; ``None`` where there are none.

        Raises:
            GammaError: There are some that are not those of this run, or are no results.
        """
        if not self.results.exists():
            return None
        results = read_json(self.results)
        if not isinstance(results, dict):
            raise GammaError(f"{self.results}: expected an object with seed and scores")
        if "seed" not in results:
            raise GammaError(f"{self.results} has no 'seed', so nothing says which run it is of")
        if results["seed"] != self.seed or isinstance(results["seed"], bool):
            raise GammaError(
                f"{self.results} is of seed {results['seed']!r}, not {self.seed}: the command has "
                "to use {seed}, and to write it down"
            )
        return results

    def problem(self) -> str | None:
        """Return what is wrong with the results that are there, or ``None``."""
        try:
            self.finished()
        except GammaError as error:
            return str(error)
        return None

    def is_finished(self) -> bool:
        """Return whether the run has results that can be read."""
        return self.problem() is None and self.results.exists()

    def failure(self) -> str | None:
        """Return the last line of a run that failed, or ``None``."""
        try:
            return str(read_json(self.folder / FAILED)["last_line"])
        except (GammaError, KeyError, TypeError):
            return None

    def fail(self, code: int | None, reason: str, seconds: float) -> None:
        """Note that the run failed, and why."""
        content = {"code": code, "last_line": reason, "seconds": round(seconds, 1)}
        write_json(self.folder / FAILED, content)

    def seconds(self) -> float | None:
        """Return about how long the finished run took, by the times of its files."""
        try:
            taken = self.results.stat().st_mtime - (self.folder / LOCK).stat().st_mtime
        except OSError:
            return None
        return taken if taken > 0 else None

    def can_resume(self) -> bool:
        """Return whether the folder holds a checkpoint of a recipe to continue from."""
        return last_checkpoint(self.folder) is not None and _has_record(self.folder)

    def empty(self) -> None:
        """Remove what an unfinished run left, so that no two starts mix."""
        for child in self.folder.iterdir():
            if child.name == LOCK:
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()

    def last_line(self) -> str:
        """Return the last line of the log that says something, or nothing."""
        try:
            with open(self.folder / LOG, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
        return next((line for line in reversed(lines) if line), "")[:300]


def has_score(run: Run, metric: Metric) -> bool:
    """Return whether a run is finished and has the metric."""
    try:
        results = run.finished()
        return results is not None and math.isfinite(metric.value(results, run.results))
    except GammaError:
        return False


def how_it_ended(run: Run, code: int) -> str:
    """Return why a run without results failed: its last line, or how its process ended."""
    line = run.last_line()
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = "; was memory short?" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}" + (f" after: {line}" if line else "")
    if code == 0:
        return f"it ended well but wrote no {RESULTS} into {run.folder}"
    return line or f"it ended with exit code {code} and said nothing"


def _has_record(folder: Path) -> bool:
    try:
        return isinstance(json.loads((folder / "run.json").read_text("utf-8")), dict)
    except (OSError, ValueError):
        return False
