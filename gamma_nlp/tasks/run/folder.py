"""A run's output folder: claimed before training, and never overwritten by another run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.files import write_json


def claim_folder(folder: str | os.PathLike[str], identity: Mapping[str, Any], resume: bool) -> bool:
    """Claim an output folder for a run, before it trains.

    Args:
        folder: The run's output folder; made if absent.
        identity: What makes two runs the same run; kept in ``run.json``.
        resume: Continue from the folder's last checkpoint.

    Returns:
        Whether there is a checkpoint to resume from.

    Raises:
        GammaError: The folder holds another run, or this one without ``resume``.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise GammaError(f"output_dir {path} is a file; give a folder")
    held = [child.name for child in _checkpoint_folders(path)]
    if (path / "results.json").exists():
        held.append("results.json")
    if held and not resume:
        raise GammaError(
            f"output_dir {path} already holds a run ({', '.join(held)}); to continue it add "
            "--resume, to start over give another --output_dir"
        )
    if held and resume:
        _compare(path, identity)
        if held == ["results.json"]:
            raise GammaError(
                f"output_dir {path} holds a finished run without checkpoints: there is nothing "
                "to resume; give another --output_dir"
            )
    write_json(path / "run.json", identity)
    return bool(checkpoints(path))


def check_unfinished(folder: str | os.PathLike[str], steps: int) -> None:
    """Raise if a run has no step left, before resuming it writes over its results.

    Raises:
        GammaError: The last checkpoint is of step ``steps`` or a later one.
    """
    last = int(checkpoints(folder)[-1].name.split("-")[1])
    if last >= steps:
        raise GammaError(
            f"output_dir {folder} is at step {last} of {steps}: the run is finished; give more "
            "--num_train_epochs to continue, or another --output_dir"
        )


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the whole checkpoints in a run's folder, by step.

    One that was being written when the run was killed does not count: the Trainer's state, which
    is written last, is missing or cut off. A resumed run writes it again.
    """
    return [path for path in _checkpoint_folders(folder) if _is_whole(path)]


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the last whole checkpoint, or ``None``."""
    found = checkpoints(folder)
    return found[-1] if found else None


def _checkpoint_folders(folder: str | os.PathLike[str]) -> list[Path]:
    named = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir()]
    numbered = [path for path in named if path.name.split("-")[1].isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.split("-")[1]))


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _compare(path: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise GammaError(
            f"output_dir {path} has checkpoints but no readable run.json, so nothing says which "
            "run they are of; give another --output_dir"
        ) from None
    now = json.loads(json.dumps(identity))
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise GammaError(
            f"output_dir {path} holds the checkpoints of another run: {'; '.join(changed)}; "
            "resume with its settings, or give another --output_dir"
        )
