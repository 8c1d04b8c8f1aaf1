"""A run's checkpoints: which are whole, and which one a run continues from."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.files.manifest import is_sealed, lost

STATE = "trainer_state.json"
"""The Trainer writes it last; of ours, the manifest comes after it."""

_NAME = re.compile(r"checkpoint-([0-9]+)")
_NEEDED = {"weights": ("model.", "pytorch_model"), "optimizer.pt": ("optimizer.pt",)}
_NEEDED |= {"scheduler.pt": ("scheduler.pt",), "rng_state.pth": ("rng_state",)}
"""What a run continues from, and how the names of its files start."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The checkpoint that a run continues from, or ``None``, and why not from a later one."""

    last: Path | None
    passed_over: tuple[str, ...] = ()


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the whole checkpoints in a run's folder, by step.

    One that was being written when the run was killed does not count, nor one with a file that is
    missing or of another size: a resumed run writes it again. Files are not read.
    """
    found, sealed = [], False
    for path in checkpoint_folders(folder):
        sealed = sealed or is_sealed(path)
        if _unfinished(path, sealed=sealed) is None:
            found.append(path)
    return found


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the last whole checkpoint, or ``None``."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoint_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints in a run's folder by step, whole or not, damaged folders too."""
    named = [path for path in Path(folder).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(named, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's name gives."""
    return int(checkpoint.name.split("-")[1])


def choose(folder: str | os.PathLike[str], *, sharded: bool = False) -> Choice:
    """Return the last checkpoint that a run can continue from as if it had never stopped.

    Every byte of it is read once. Later ones that are damaged or were not finished are passed
    over, each with a reason.

    Args:
        folder: The run's.
        sharded: FSDP or DeepSpeed write files of other names; these are held to the manifest alone.
    """
    folders = checkpoint_folders(folder)
    sealed = [is_sealed(path) for path in folders]
    passed_over: list[str] = []
    for number in reversed(range(len(folders))):
        path = folders[number]
        why = _unfinished(path, sealed=any(sealed[: number + 1]))
        why = why or _damage(path, sharded=sharded)
        if why is None:
            return Choice(last=path, passed_over=tuple(passed_over))
        passed_over.append(f"{path.name}: {why}")
    return Choice(last=None, passed_over=tuple(passed_over))


def _unfinished(checkpoint: Path, *, sealed: bool) -> str | None:
    """Return what is missing of a checkpoint, without reading its large files.

    Args:
        checkpoint: Its folder.
        sealed: Whether it or an earlier one of its run has a manifest, so that it must have one.
    """
    if not checkpoint.is_dir():
        return f"it is no folder but {'a link to nothing' if checkpoint.is_symlink() else 'a file'}"
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return f"it was not finished ({STATE} is missing or cut off)"
    if is_sealed(checkpoint):
        return lost(checkpoint, thorough=False)
    return "it was not finished (it has no manifest)" if sealed else None


def _damage(checkpoint: Path, *, sharded: bool) -> str | None:
    """Return why training would go on differently from a finished checkpoint, or not at all."""
    step = step_of(checkpoint)
    state: Any = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    found = state.get("global_step") if isinstance(state, dict) else None
    if found != step:
        return f"{STATE} is of step {found}, not {step}"
    if is_sealed(checkpoint) and (why := lost(checkpoint, thorough=True)):
        return why
    if sharded:
        return None
    names = sorted(path.name for path in checkpoint.iterdir())
    lacking = [
        what for what, starts in _NEEDED.items() if not any(n.startswith(starts) for n in names)
    ]
    if lacking:
        return f"it lacks {listed(lacking)} (save_only_model leaves them out)"
    if is_sealed(checkpoint):
        return None
    for name in names:
        if why := _broken_frame(checkpoint / name):
            return f"{name} is damaged ({why})"
    return None


def _broken_frame(file: Path) -> str | None:
    """Return what is wrong with a file of tensors that no manifest tells of.

    What torch saves has checksums of its own; of safetensors the frame alone can be judged.
    """
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt"):
                return None
        except (OSError, SafetensorError) as error:
            return one_line(error)
    if file.suffix not in (".pt", ".pth", ".bin"):
        return None
    try:
        with zipfile.ZipFile(file) as parts:
            empty, bad = not parts.namelist(), parts.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error):
        return "it was cut off"
    if empty:
        return "it was cut off"
    return None if bad is None else "a checksum in it is not the one it was written with"


def need_checkpoint(folder: Path, choice: Choice) -> Path:
    """Return the checkpoint to continue from.

    Raises:
        GammaError: There is none; each is named with what is wrong with it.
    """
    if choice.last is not None:
        return choice.last
    raise GammaError(
        f"--resume: output_dir {folder} holds no checkpoint to continue from "
        f"({'; '.join(choice.passed_over)}); give another --output_dir to start over"
    )
