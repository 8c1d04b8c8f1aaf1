"""The mean of the weights of a run's last checkpoints, as one model to load.

Late in training the weights wander around a point that none of them reaches; their mean is nearer
to it and often translates better than any of them (Vaswani et al. 2017, section 6.1).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.manifest import is_planned
from gamma_nlp.files.write import new_folder, write_json
from gamma_nlp.gains.table import dtype_name
from gamma_nlp.tasks.run.checkpoints import checkpoints

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ORIGIN = "averaged.json"
"""Says which checkpoints a folder is the mean of; only a folder that has it is replaced."""


def last_checkpoints(run: str | os.PathLike[str], count: int) -> list[Path]:
    """Return the last whole checkpoints of a run, oldest first; all of them if there are fewer.

    One where the run was told to stop, between two that it planned, does not count.

    Raises:
        GammaError: ``count`` is below one.
    """
    if count < 1:
        raise GammaError(f"the number of checkpoints must be at least 1, not {count}")
    found = checkpoints(run)
    return ([path for path in found if is_planned(path)] or found)[-count:]


def average_checkpoints(
    checkpoints: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> None:
    """Write the mean of several checkpoints of one run as a folder for ``from_pretrained``.

    As fairseq's ``average_checkpoints.py`` does, every floating-point tensor is averaged, buffers
    included. A mean is summed in float64 and rounded once to the tensor's own dtype; that of one
    checkpoint is the checkpoint, bit for bit. Counters, which are integers of one element, come
    from the last checkpoint; the mean of other integers would mean nothing, so they must be equal.
    The configuration is that of the last checkpoint.

    Args:
        checkpoints: Folders with ``config.json`` and ``model.safetensors``, or its shards.
        output: A new folder, or one that an earlier call wrote.

    Raises:
        GammaError: There is no checkpoint, one cannot be read, two are of different models, or
            ``output`` is something else already. Nothing is written then.
    """
    folders, target = [Path(path) for path in checkpoints], Path(os.path.abspath(output))
    if not folders:
        raise GammaError("no checkpoint to average; give at least one checkpoint-N folder")
    _check_output(target)
    if not (folders[-1] / "config.json").is_file():
        raise GammaError(f"{folders[-1]} has no config.json; give folders that the Trainer saved")
    with contextlib.ExitStack() as stack:
        opened = [_Weights(folder, stack) for folder in folders]
        for other in opened[1:]:
            _check_names(opened[0], other)
        mean = {name: _mean(name, opened) for name in opened[0].names}
    with new_folder(target) as draft:
        try:
            save_file(mean, draft / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, too
            raise GammaError(f"cannot write {target}: {one_line(error)}") from error
        for file in ("config.json", "generation_config.json"):
            if (folders[-1] / file).is_file():
                shutil.copyfile(folders[-1] / file, draft / file)
        write_json(draft / ORIGIN, {"checkpoints": [folder.name for folder in folders]})


class _Weights:
    """The tensors of a folder by name, read one at a time."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        if not any((folder / file).is_file() for file in (WEIGHTS, INDEX)):
            raise GammaError(
                f"{folder} has no {WEIGHTS} (nor its index); give checkpoint-N folders of a run"
            )
        self.names: dict[str, Any] = {}
        try:
            for file in _files(folder):
                part = stack.enter_context(safe_open(folder / file, framework="pt"))
                self.names |= dict.fromkeys(part.keys(), part)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise GammaError(
                f"the weights in {folder} cannot be read ({one_line(error, file=True)}); "
                "leave this checkpoint out"
            ) from error

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self.names[name].get_tensor(name)
        return tensor


def _files(folder: Path) -> list[str]:
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return sorted(set(dict(index["weight_map"]).values()))


def _check_output(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise GammaError(f"output {target} is not a folder; give another name")
    if target.is_dir() and any(target.iterdir()) and not (target / ORIGIN).is_file():
        raise GammaError(
            f"output {target} has no {ORIGIN}, so it is not an averaged model and is not "
            "replaced; give another output folder"
        )


def _check_names(first: _Weights, other: _Weights) -> None:
    for has, lacks in ((first, other), (other, first)):
        for name in has.names:
            if name not in lacks.names:
                raise GammaError(
                    f"{name} is in {has.folder} but not in {lacks.folder}; average checkpoints of "
                    "one run"
                )


def _mean(name: str, opened: Sequence[_Weights]) -> torch.Tensor:
    first = opened[0].read(name)
    # A copy even of float64: what is read may still lie in the file.
    total = first.to(torch.float64, copy=True) if first.is_floating_point() else first
    for other in opened[1:]:
        tensor = other.read(name)
        if (tensor.shape, tensor.dtype) != (first.shape, first.dtype):
            raise GammaError(
                f"{name} is {_kind(first)} in {opened[0].folder} but {_kind(tensor)} in "
                f"{other.folder}; average checkpoints of one run"
            )
        if first.is_floating_point():
            total += tensor.double()
        elif tensor.numel() == 1:
            total = tensor
        elif not torch.equal(tensor, first):
            raise GammaError(
                f"{name} ({_kind(first)}) differs between {opened[0].folder} and {other.folder}, "
                "and integers have no mean; average checkpoints without quantised weights"
            )
    return (total / len(opened)).to(first.dtype) if first.is_floating_point() else total


def _kind(tensor: torch.Tensor) -> str:
    return f"{dtype_name(tensor)} of shape {tuple(tensor.shape)}"
