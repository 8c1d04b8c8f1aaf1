"""Read single tensors out of weight files; the others, which may be huge, are never touched.

Safetensors files say in their header where each tensor lies. PyTorch's files are mapped into
memory, so that only what is asked for is read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError, listed, need, one_line, shown
from gamma_nlp.files.read import read_json

SINGLE = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
WHOLE = tuple(name + end for name in SINGLE for end in ("", INDEX))
"""The files that hold a model or name its shards, in the order in which transformers looks."""

_SAFE = ".safetensors"
_TORCH = (".bin", ".pt", ".pth", ".ckpt")
_NESTED = ("model", "state_dict", "module")
"""Where fairseq, Lightning and DeepSpeed keep a model inside of a checkpoint."""
_SCALES = ("_scale_inv", "_scale")


class Weights:
    """The tensors of one checkpoint, by the names that they are stored under.

    Attributes:
        names: All names.
        step: The optimizer step that a checkpoint of fairseq holds.
    """

    def __init__(self, path: Path) -> None:
        self.step: int | None = None
        self._held: dict[Path, Mapping[str, Tensor]] = {}
        self._place: dict[str, Path] = {}
        if path.name.endswith(INDEX):
            self._open_shards(path)
        else:
            self._open(path)
        self.names = tuple(self._place)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return some of the tensors as they are stored.

        Raises:
            GammaError: One is damaged, or quantised, so that its numbers are not its values.
        """
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._place[name], []).append(name)
        found: dict[str, Tensor] = {}
        for path, own in by_file.items():
            found |= _read_safe(path, own) if path.suffix == _SAFE else self._pick(path, own)
        for name, tensor in found.items():
            scale = next((name + end for end in _SCALES if name + end in self._place), None)
            if scale or not tensor.is_floating_point():
                dtype = str(tensor.dtype).removeprefix("torch.")
                why = f"beside its scale {scale!r}" if scale else f"as {dtype}"
                raise GammaError(
                    f"{self._place[name]} holds {name!r} quantised, {why}; give the checkpoint "
                    "before it was quantised"
                )
        return found

    def _pick(self, path: Path, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: self._held[path][name] for name in names}

    def _open(self, path: Path) -> None:
        if path.suffix == _SAFE:
            self._place |= dict.fromkeys(_read_safe(path, None), path)
            return
        if path.suffix not in _TORCH:
            raise GammaError(
                f"{path} is no weight file that can be read; give a file that ends in "
                f"{', '.join((_SAFE, *_TORCH))}, or the folder of a checkpoint"
            )
        content = _load_torch(path)
        self._held[path] = _tensors(content, path)
        self._place |= dict.fromkeys(self._held[path], path)
        self.step = _fairseq_step(content)

    def _open_shards(self, index: Path) -> None:
        content = read_json(index)
        shards = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(v, str) for v in shards.values()):
            raise GammaError(
                f"{index} has no weight_map from tensors to files; copy the file again"
            )
        files = sorted({*shards.values()})
        missing = [file for file in files if not os.path.isfile(index.parent / file)]
        if missing:
            raise GammaError(
                f"{index} names {listed(_cut(missing))}, which {_verb(missing)} not there; copy "
                f"{'it' if len(missing) == 1 else 'them'} into {index.parent} as well"
            )
        for file in files:
            self._open(index.parent / file)
        absent = [name for name in shards if name not in self._place]
        if absent:
            raise GammaError(
                f"{index} names {listed(_cut(absent))}, which no shard holds: index and shards are "
                "of different models; copy the checkpoint again"
            )


def _cut(names: list[str]) -> list[str]:
    return [name[:80] for name in names]


def _verb(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _read_safe(path: Path, names: Iterable[str] | None) -> dict[str, Tensor]:
    """Return tensors of a safetensors file; without ``names`` all names, and no values."""
    safetensors = need("safetensors", "hf", "reading safetensors files needs")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if names is None:
                return dict.fromkeys(file.keys(), torch.empty(0))
            return {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> GammaError:
    with path.open("rb") as file:
        start = file.read(40)
    if start.startswith(b"version https://git-lfs"):
        return GammaError(
            f"{path} is a pointer of Git LFS and not the file itself: run git lfs pull"
        )
    size = path.stat().st_size
    return GammaError(
        f"{path} ({size:,} bytes) is cut short or no file of its kind ({one_line(error, 120)}); "
        "copy it again"
    )


def _load_torch(path: Path) -> Any:
    # fairseq keeps its options in the checkpoint. A Namespace holds data and runs nothing.
    allowed = torch.serialization.get_safe_globals()  # those of the caller stay so afterwards
    with torch.serialization.safe_globals([k for k in [argparse.Namespace] if k not in allowed]):
        for mapped in (True, False):  # files before torch 1.6 cannot be mapped
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            except RuntimeError as error:
                if mapped and "mmap" in str(error):
                    continue
                raise _damaged(path, error) from error
            except Exception as error:  # pickle's errors, and those of damaged archives
                if "Weights only load failed" in str(error):
                    raise GammaError(
                        f"{path} holds Python objects beside tensors, which are not run; save "
                        "model.state_dict() alone, or as safetensors"
                    ) from error
                raise _damaged(path, error) from error
    raise AssertionError("unreachable")


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a file holds, at its top or where a trainer nests it."""
    places = [content]
    if isinstance(content, dict):
        places += [content[key] for key in _NESTED if isinstance(content.get(key), dict)]
    for place in places:
        if isinstance(place, dict):
            found = {
                name: value
                for name, value in place.items()
                if isinstance(name, str) and isinstance(value, Tensor)
            }
            if found:
                return found
    kind = f"keys {listed(map(str, content))}" if isinstance(content, dict) else shown(content)
    raise GammaError(
        f"{path} holds no weights ({kind}); give a file that holds a model's state dict"
    )


def _fairseq_step(content: Any) -> int | None:
    history = content.get("optimizer_history") if isinstance(content, dict) else None
    last = history[-1] if isinstance(history, list) and history else None
    step = last.get("num_updates") if isinstance(last, dict) else None
    return step if isinstance(step, int) else None
