"""A run's checkpoints: which are whole, what can be continued from, and none half-written."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import GammaError, listed, one_line

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

STATE = "trainer_state.json"
"""The Trainer writes it last."""

_NEEDED = {"weights": ("model.", "pytorch_model"), "optimizer.pt": ("optimizer.pt",)}
_NEEDED |= {"scheduler.pt": ("scheduler.pt",), "rng_state.pth": ("rng_state",)}
"""What a run continues from, and how the names of its files start."""


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the whole checkpoints in a run's folder, by step.

    One that was being written when the run was killed does not count: the Trainer's state, which
    is written last, is missing or cut off. A resumed run writes it again.
    """
    return [path for path in checkpoint_folders(folder) if _is_whole(path)]


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the last whole checkpoint, or ``None``."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoint_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the folders of checkpoints in a run's folder, whole or not, by step."""
    named = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir()]
    numbered = [path for path in named if path.name.split("-")[1].isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.split("-")[1]))


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def check_resumable(checkpoint: Path, step: int) -> None:
    """Refuse a checkpoint from which training would go on differently, or not at all.

    Args:
        checkpoint: A whole one.
        step: The step that it is of, by its name.

    Raises:
        GammaError: It is of another step, or a file is missing or damaged.
    """
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    found = state.get("global_step") if isinstance(state, dict) else None
    if found != step:
        raise GammaError(f"{checkpoint / STATE} is of step {found}, not {step}; {_other()}")
    names = [path.name for path in checkpoint.iterdir()]
    lacking = [
        what for what, starts in _NEEDED.items() if not any(n.startswith(starts) for n in names)
    ]
    if lacking:
        raise GammaError(
            f"{checkpoint} lacks {listed(lacking)} (save_only_model leaves them out), so training "
            f"would not go on as it was; {_other()}"
        )
    for name in sorted(names):
        if why := _damage(checkpoint / name):
            raise GammaError(f"{checkpoint / name} is damaged ({why}); {_other()}")


def _other() -> str:
    return "delete this checkpoint to --resume from the one before it, or start over elsewhere"


def _damage(file: Path) -> str | None:
    """Return what is wrong with a file of tensors, by its frame alone."""
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt"):
                return None
        except (OSError, SafetensorError) as error:
            return one_line(error)
    if file.suffix in (".pt", ".pth") and not zipfile.is_zipfile(file):
        return "it was cut off"
    return None


class WholeCheckpoints(_Base):
    """Leaves no half of a checkpoint where one cannot be written; put it before the Trainer."""

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except GammaError:
            raise
        except Exception as error:  # a full disk: each writer has an error of its own
            step = self.state.global_step
            folder = Path(self.args.output_dir) / f"checkpoint-{step}"
            free = shutil.disk_usage(self.args.output_dir).free / 2**20
            if self.args.should_save and not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
            last = last_checkpoint(self.args.output_dir)
            go_on = f"; the same command with --resume continues from {last.name}" if last else ""
            raise GammaError(
                f"cannot write {folder}: {one_line(error)} ({free:.1f} MiB are free there); free "
                f"some space, or write elsewhere{go_on}"
            ) from error
