"""A study from its config to its last run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_text
from gamma_nlp.study.design import announce
from gamma_nlp.study.design.cells import cells_of
from gamma_nlp.study.design.config import Study
from gamma_nlp.study.design.plans import plan
from gamma_nlp.study.design.recipe import Recipe
from gamma_nlp.study.results.study_file import PICTURE
from gamma_nlp.study.runs import changes, record
from gamma_nlp.study.runs.runner import Machine, run_all
from gamma_nlp.tasks.run.lock import holder, sign, take
from gamma_nlp.workers import usable_cores

SOME_FAILED = 1
"""The exit code of a study some of whose runs failed."""
_LOCK = ".study.lock"


def run_study(
    study: Study,
    *,
    jobs: int | None = None,
    dry_run: bool = False,
    keep_failed: bool = False,
    say: Callable[[str], None] = print,
    note: Callable[[str], None] = print,
) -> int:
    """Plan a study, say what it compares, and run what is not finished.

    Args:
        study: The study.
        jobs: How many runs at a time; by default one on each GPU, or as many as fit the cores.
        dry_run: Only say it.
        keep_failed: Leave runs alone that failed before.
        say: Prints a result.
        note: Prints what the user should know.

    Returns:
        The exit code: 1 if a run failed, 128 + N if signal N stopped it.

    Raises:
        GammaError: It cannot be run as it is described.
    """
    before = record.read_record(study.output)
    drawn = dry_run or (study.output / PICTURE).exists()
    planned = plan(study, cells_of(study), picture=not drawn)
    runs = record.runs_of(study, planned, record.policies_of(study))
    machine = _machine(jobs, study, len(runs), any(one.on_gpu for one in planned))
    say("\n".join(announce.design_lines(study, planned, runs)))
    for text in announce.notes(study, planned):
        note(text)
    if all(one.same_as is not None or one.cell.against is None for one in planned):
        raise GammaError(f"{study.file}: no arm decays anything else than {study.baseline}")
    now = record.contents(study, planned, runs)
    if before is not None:
        changes.check_same(study, before, now)
        for text in changes.version_notes(before, now):
            note(text)
    say(f"\n{announce.estimate(study, runs, machine)}")
    if dry_run:
        return 0
    with _locked(study.output):
        record.write_record(study, now, before)
        if planned[0].picture is not None:
            write_text(study.output / PICTURE, planned[0].picture)
        ended = run_all(
            runs,
            machine,
            study.metric,
            recipe=isinstance(study.runs, Recipe),
            keep_failed=keep_failed,
        )
    say("\n" + "\n".join(announce.end_lines(study, ended, runs, machine)))
    if ended.stopped is not None:
        return 128 + ended.stopped
    return SOME_FAILED if ended.failed else 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = take(folder / _LOCK)
    if lock is None:
        raise GammaError(
            f"{folder}: a study runs here already ({holder(folder / _LOCK)}); wait for it, or stop "
            "it first"
        )
    try:
        sign(lock, os.getpid())
        yield
    finally:
        os.close(lock)


def _machine(jobs: int | None, study: Study, runs: int, on_gpu: bool) -> Machine:
    found = gpus() if on_gpu else ()
    if jobs is None:
        jobs = len(found) or max(usable_cores() // study.threads, 1)
    return Machine(jobs=max(min(jobs, runs), 1), gpus=found, threads=study.threads)


def gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(
            name for part in visible.split(",") if (name := part.strip()) not in ("", "-1")
        )
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    count = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    return tuple(map(str, range(count)))
