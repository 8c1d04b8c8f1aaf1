"""A run's folder and its surroundings: nothing is overwritten, everything that matters is noted."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.files import write_json

_PACKAGES = (
    "gamma_nlp",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "numpy",
)


def claim_folder(folder: str | os.PathLike[str], identity: Mapping[str, Any], resume: bool) -> bool:
    """Make sure that a run may write to a folder, before it trains.

    Args:
        folder: The run's output folder; made if absent.
        identity: What makes two runs the same run; kept in ``run.json``.
        resume: Go on from the folder's last checkpoint.

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
            f"output_dir {path} already holds a run ({', '.join(held)}); to go on with it add "
            "--resume, to start anew give another --output_dir"
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
    """Refuse to resume a run that has no step left, before its results are written over.

    Raises:
        GammaError: The last checkpoint is of step ``steps`` or a later one.
    """
    last = int(checkpoints(folder)[-1].name.split("-")[1])
    if last >= steps:
        raise GammaError(
            f"output_dir {folder} is at step {last} of {steps}: the run is finished; give more "
            "--num_train_epochs to go on, or another --output_dir"
        )


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The whole checkpoints in a run's folder, by step.

    One that was being written when the run was killed is none: the Trainer's state, which comes
    last, is missing or cut off. A resumed run writes it anew.
    """
    return [path for path in _checkpoint_folders(folder) if _is_whole(path)]


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The last whole checkpoint, or None."""
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


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """What a run computed on, without anything that names the machine."""
    summary: dict[str, Any] = {"device": device.type}
    if device.type == "cuda":
        summary["gpu"] = torch.cuda.get_device_name(device)
        summary["gpu_memory_gib"] = round(
            torch.cuda.get_device_properties(device).total_memory / 2**30, 1
        )
    summary |= {
        "processor": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }
    return summary


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_processes(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be the only process of a launch that asked for several.

    ``accelerate launch --num_processes 2 --cpu`` starts one process without a word. It leaves a
    trace: an address to meet at, but nobody to meet.

    Raises:
        GammaError: That is what happened.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment
    alone = not any(
        key in environment
        for key in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    )
    if launched and alone and "MASTER_ADDR" in environment:
        raise GammaError(
            "accelerate launch was asked for several processes and started one, as it does with "
            "--cpu. Use `torchrun --nproc_per_node N` instead (with --use_cpu true on CPU), or "
            "--num_processes 1; if MASTER_ADDR comes from your cluster, unset it"
        )


def set_threads(wanted: int | None) -> int:
    """Use ``wanted`` CPU threads and return how many there are.

    ``accelerate launch`` sets ``OMP_NUM_THREADS=1`` for a run on CPU. Under it the default is all
    cores, shared among the processes of this machine; elsewhere torch's own choice stands.
    """
    if wanted is not None and wanted < 1:
        raise GammaError(f"cpu_threads must be at least 1, not {wanted}")
    if wanted is None and "ACCELERATE_MIXED_PRECISION" in os.environ:
        wanted = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()
