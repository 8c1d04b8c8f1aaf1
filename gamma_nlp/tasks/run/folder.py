"""A run's output folder: claimed before training, and never overwritten by another run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.tasks.run.checkpoints import (
    checkpoint_folders,
    checkpoints,
    choose,
    last_checkpoint,
    need_checkpoint,
    step_of,
)
from gamma_nlp.tasks.run.identity import Parts, differences
from gamma_nlp.tasks.run.lock import held_alone, holder
from gamma_nlp.tasks.run.processes import all_or_none, decided
from gamma_nlp.tasks.run.record import RECORD, read_record, write_record

logger = logging.getLogger("gamma_nlp")

RESULTS = "results.json"
_WRITES = (RECORD, "gain_table.json", "training.png", "text", "translations", "averaged", "items")
"""What else a run writes; that of a run which left no checkpoint is written over."""
_LOCK = ".output.lock"
_DRAFT = re.compile(r"^\.(?P<name>.+)\.\d+(?P<old>\.old)?$")
_MOST_DIFFERENCES = 6


class Claim:
    """A run's hold on its output folder.

    Attributes:
        folder: The output folder.
        last: The checkpoint to resume from, or ``None``.
        parts: The parts that the run consists of so far.
        trainer: Set it once there is one: a start has failed if it took no step.
    """

    def __init__(self, folder: Path, last: Path | None, record: Mapping[str, Any]) -> None:
        self.folder = folder
        self.last = last
        self.parts: Parts = list(record.get("parts", []))
        self.trainer: Any = None
        self._record, self._wrote = record, False
        self._before = {key: value for key, value in record.items() if key != "parts"}
        self._identity: dict[str, Any] = {}

    @property
    def step(self) -> int:
        """Return the step to resume from; 0 for a new run."""
        return 0 if self.last is None else step_of(self.last)

    def noted(self, name: str) -> Any:
        """Return what the run to resume had; ``None`` for a new run."""
        return self._before.get(name)

    def agree(self, **identity: Any) -> None:
        """Note what makes this the same run, and compare it with the run to resume.

        Raises:
            GammaError: The folder's run had something else; each difference is named.
        """
        now = json.loads(json.dumps(identity, default=str))
        self._identity |= now
        if not self._before:
            return
        noted = now.keys() & self._before.keys()
        changed = differences(*({key: one[key] for key in noted} for one in (self._before, now)))
        if lacking := sorted(now.keys() - noted):
            changed.append(f"{RECORD} does not say what {listed(lacking)} was")
        if changed:
            shown = "; ".join(changed[:_MOST_DIFFERENCES])
            more = len(changed) - _MOST_DIFFERENCES
            raise GammaError(
                f"output_dir {self.folder} holds the checkpoints of another run: {shown}"
                f"{f'; and {more} more' if more > 0 else ''}; resume with its settings, or give "
                "another --output_dir"
            )

    def write(self, parts: Parts) -> None:
        """Write ``run.json``: training starts."""
        self.parts = parts
        write_record(self.folder, {**self._identity, "parts": parts})
        self._wrote = True

    def unwrite(self) -> None:
        """Write what ``run.json`` said before, if it was written over."""
        if self._wrote and self._record:
            write_record(self.folder, self._record)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the main process found in the folder: by name, since paths are each machine's own."""

    last: str | None = None
    passed_over: tuple[str, ...] = ()
    record: Mapping[str, Any]


@contextlib.contextmanager
def claimed(
    folder: str | os.PathLike[str],
    *,
    resume: bool,
    main_process: bool = True,
    sharded: bool = False,
) -> Iterator[Claim]:
    """Hold an output folder for a run; if the run takes no step, the folder is left as it was.

    Only one run at a time holds it. Of several processes the main one looks into the folder and
    tells the others what it found there.

    Args:
        folder: The run's output folder; made if absent.
        resume: Continue from the folder's last checkpoint that is whole.
        main_process: Whether this process writes.
        sharded: FSDP or DeepSpeed write its checkpoints.

    Raises:
        GammaError: The folder holds another run, or this one without ``resume``, or nothing to
            resume; another process runs there; or it cannot be made or written.
        KeyboardInterrupt: As raised inside, with a message that says how to continue.
    """
    path = Path(folder)
    made: list[Path] = []
    before: set[str] | None = None
    with contextlib.ExitStack() as stack:

        def take_folder() -> _Found:
            nonlocal before
            found = _look(path, resume, sharded=sharded)
            before = {child.name for child in path.iterdir()} if path.is_dir() else None
            made.extend(_make(path))
            stack.callback(_remove_empty, made)
            if not stack.enter_context(held_alone(path / _LOCK)):
                raise GammaError(
                    f"output_dir {path} is in use: {holder(path / _LOCK)} trains there; wait for "
                    "it, or give another --output_dir"
                )
            _clear_drafts(path)
            return found

        found = decided(take_folder, main_process=main_process)
        last = None if found.last is None else path / found.last
        all_or_none(_unseen(last))
        claim = Claim(path, last, found.record)
        if main_process:
            for line in found.passed_over:
                logger.warning("%s; this run continues from %s", line, found.last)
        try:
            yield claim
        except BaseException as error:
            if main_process and _took_no_step(claim):
                _undo(path, before)
                claim.unwrite()
            if isinstance(error, KeyboardInterrupt):
                raise type(error)(_how_to_go_on(claim, str(error))) from None
            raise


def _unseen(last: Path | None) -> str | None:
    """Return why this process cannot continue from the checkpoint that the main one chose."""
    if last is None or last.is_dir():
        return None
    return (
        f"--resume: the main process continues from {last}, which another of the run's machines "
        "does not have; give all of them the same --output_dir on a disk that they share"
    )


def _look(path: Path, resume: bool, *, sharded: bool = False) -> _Found:
    """Return the checkpoint to resume from and what the folder notes of its run."""
    try:
        if path.exists() and not path.is_dir():
            raise GammaError(f"output_dir {path} is a file; give a folder")
        if path.is_symlink() and not path.exists():
            raise GammaError(f"output_dir {path} is a link to nothing; give a folder")
        held = [child.name for child in checkpoint_folders(path)]
        if (path / RESULTS).exists():
            held.append(RESULTS)
        foreign = [name for name in _WRITES if (path / name).exists()]
    except OSError as error:
        raise GammaError(f"output_dir {path} cannot be used: {one_line(error)}") from error
    if held and not resume:
        raise GammaError(
            f"output_dir {path} already holds a run ({', '.join(held)}); to continue it add "
            "--resume, to start over give another --output_dir"
        )
    if not resume:
        if foreign and not _is_of_a_run(path):
            raise GammaError(
                f"output_dir {path} holds {listed(foreign)}, which this run would write over, and "
                "no run of a recipe; give another --output_dir"
            )
        return _Found(record={})
    if not held:
        raise GammaError(
            f"--resume: output_dir {path} holds no checkpoint, so there is nothing to resume; "
            "leave --resume out to start, or give the --output_dir of the run"
        )
    try:
        record = read_record(path)
    except GammaError as error:
        raise GammaError(
            f"output_dir {path} has checkpoints but no readable {RECORD} ({error}), so nothing "
            "says which run they are of; give another --output_dir"
        ) from error
    if held == [RESULTS]:
        raise GammaError(
            f"output_dir {path} holds a finished run without checkpoints: there is nothing "
            "to resume; give another --output_dir"
        )
    choice = choose(path, sharded=sharded)
    last = need_checkpoint(path, choice)
    return _Found(last=last.name, passed_over=choice.passed_over, record=record)


def _clear_drafts(path: Path) -> None:
    """Remove what a killed run was writing; a folder that it had only moved aside comes back."""
    for child in path.iterdir():
        match = _DRAFT.match(child.name)
        if match is None or match["name"] not in (*_WRITES, RESULTS):
            continue
        if match["old"] and not (path / match["name"]).exists():
            child.rename(path / match["name"])
        elif child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


def _is_of_a_run(path: Path) -> bool:
    with contextlib.suppress(GammaError):
        return "parts" in read_record(path)
    return False


def _make(path: Path) -> list[Path]:
    """Make a folder that can be written, and return the folders that were made for it."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    probe = path / f".probe.{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\n")
        probe.unlink()
    except (OSError, RecursionError) as error:  # the latter: a path of a thousand folders
        _remove_empty(made)
        raise GammaError(
            f"output_dir {path} cannot be written: {one_line(error)}; give another --output_dir"
        ) from error
    return made


def _took_no_step(claim: Claim) -> bool:
    trainer = claim.trainer
    return trainer is None or trainer.state.global_step <= claim.step


def _undo(path: Path, before: set[str] | None) -> None:
    for child in path.iterdir() if path.is_dir() else ():
        if child.name != _LOCK and (before is None or child.name not in before):
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child, ignore_errors=True)
            else:
                child.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _how_to_go_on(claim: Claim, what: str) -> str:
    what = what or "interrupted"
    if _took_no_step(claim) and claim.last is None:
        return f"{what} before the first step; nothing was written"
    last = last_checkpoint(claim.folder)
    step = claim.trainer.state.global_step if claim.trainer is not None else claim.step
    if last is None:
        return (
            f"{what} at step {step}, before the first checkpoint: there is nothing to --resume; "
            "start again (a smaller save_steps saves earlier)"
        )
    return f"{what} at step {step}; the same command with --resume continues from {last.name}"


def check_unfinished(folder: str | os.PathLike[str], steps: int) -> None:
    """Raise if a run has no step left, before resuming it writes over its results.

    Raises:
        GammaError: The last checkpoint is of step ``steps`` or a later one.
    """
    last = step_of(checkpoints(folder)[-1])
    if last >= steps:
        raise GammaError(
            f"output_dir {folder} is at step {last} of {steps}: the run is finished; give more "
            "--num_train_epochs to continue, or another --output_dir"
        )
