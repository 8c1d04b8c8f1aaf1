"""Find checkpoints: what the user names becomes weight files in the order of their steps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gamma_nlp.diagnose.weights import INDEX, WHOLE, Weights
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.files.manifest import is_sealed, lost, tells_of_model
from gamma_nlp.files.read import read_json
from gamma_nlp.hf.hub import find_config, local_path

STATE = "trainer_state.json"
_OF_TRAINER = re.compile(r"checkpoint-(\d+)")
_OF_FAIRSEQ = re.compile(r"checkpoint(?:_\d+)?_?\d+\.pt")
_FOREIGN = {
    ".gguf": "GGUF", ".h5": "Keras", ".msgpack": "Flax", ".onnx": "ONNX", ".pth": "PyTorch",
    ".npz": "NumPy", ".ckpt": "TensorFlow or Lightning",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One saved state of a model.

    Attributes:
        path: The file or folder, as the user knows it.
        file: Its weight file, or the index of its shards.
        weights: Its tensors, of which none has been read.
        step: Its optimizer step; ``None`` where nothing tells.
    """

    path: Path
    file: Path
    weights: Weights
    step: int | None

    @property
    def label(self) -> str:
        """What to call it in a table."""
        return self.path.name or str(self.path) if self.step is None else f"step {self.step}"

    @property
    def folder(self) -> Path:
        """Where its config would lie."""
        return self.file.parent


def find_checkpoints(sources: Sequence[str], note: Callable[[str], None]) -> list[Checkpoint]:
    """Return the checkpoints that are named, in the order of their steps where all have one.

    Args:
        sources: Folders and files; a run's folder stands for all of its checkpoints, a name on the
            hub for what the cache holds of it.
        note: Is told what is left out.

    Raises:
        GammaError: One is not found, cannot be read, or is there twice.
    """
    found: list[Checkpoint] = []
    for source in sources:
        for path, file in _expand(source, note):
            weights = Weights(file)
            step = weights.step if weights.step is not None else _step(path)
            found.append(Checkpoint(path=path, file=file, weights=weights, step=step))
    seen: dict[Path, Checkpoint] = {}
    for one in found:
        if one.file.resolve() in seen:
            raise GammaError(f"{one.path} is given twice; name each checkpoint once")
        seen[one.file.resolve()] = one
    if any(one.step is None for one in found):
        return found
    found.sort(key=lambda one: one.step or 0)
    for one, two in itertools.pairwise(found):
        if one.step == two.step:
            raise GammaError(
                f"{one.path} and {two.path} are both of step {one.step}, so they are not of one "
                "run; give the checkpoints of one run"
            )
    return found


def _expand(source: str, note: Callable[[str], None]) -> list[tuple[Path, Path]]:
    """Return what the user sees and its weight file, for each checkpoint of ``source``."""
    if not source:
        raise GammaError("CHECKPOINT is empty; give a checkpoint's folder or its weight file")
    path = local_path(source)
    for folder in (path.absolute(), path.absolute().parent):
        if _is_trainers(folder) and (why := _damage(folder, False, note)):
            raise GammaError(f"{folder}: {why}; give another checkpoint")
    if path.is_file():
        if path.suffix == ".json" and not path.name.endswith(INDEX):
            raise GammaError(f"{path} holds no weights; give the folder of a checkpoint")
        return [(path, path)]
    if not path.exists():
        beside = sorted(path.parent.glob("checkpoint-*")) if source != path.name else []
        if any(map(_is_trainers, beside)):
            names = listed(one.name for one in beside)
            raise GammaError(f"no checkpoint {source!r}: {path.parent} holds {names}")
        return [_cached(source)]
    inside = sorted(path.iterdir())
    own = _weight_file(path)
    by_trainer = [p for p in inside if _is_trainers(p)]
    by_fairseq = [p for p in inside if p.is_file() and _OF_FAIRSEQ.fullmatch(p.name)]
    if by_trainer:
        if own is not None:
            note(f"{path} holds checkpoints, which are read, and {own.name}, which is left out")
        by_trainer.sort(key=lambda p: int(p.name.rpartition("-")[2]))
        return [(p, _weight_file(p) or _refuse(p)) for p in _whole(by_trainer, path, note)]
    if not by_fairseq and own is None and (path / "checkpoints").is_dir():
        return _expand(str(path / "checkpoints"), note)
    if by_fairseq and own is None:
        return [(p, p) for p in by_fairseq]
    return [(path, own or _refuse(path))]


def _whole(folders: Sequence[Path], run: Path, note: Callable[[str], None]) -> list[Path]:
    """Return the checkpoints of a run that are as they were written.

    Raises:
        GammaError: None is.
    """
    found, left_out = [], []
    for number, folder in enumerate(folders):
        sealed = any(map(is_sealed, folders[:number]))
        if why := _damage(folder, sealed, note):
            left_out.append(f"{folder.name}: {why}")
        else:
            found.append(folder)
    if not found:
        raise GammaError(f"no checkpoint of {run} is whole ({'; '.join(left_out)})")
    for line in left_out:
        note(f"left out of {run}: {line}")
    return found


def _damage(folder: Path, sealed: bool, note: Callable[[str], None]) -> str | None:
    """Return why the weights of a checkpoint are not those that were written, as far as it says.

    Args:
        folder: A checkpoint, which the recipes seal with a manifest when all of it is written.
        sealed: Whether an earlier one of its run has a manifest.
        note: Is told what could not be checked.
    """
    if not is_sealed(folder):
        return "it was not finished (it has no manifest)" if sealed else None
    weights = (path for path in folder.iterdir() if tells_of_model(path.name) and path.is_file())
    size = sum(path.stat().st_size for path in weights)
    if why := lost(folder, thorough=size <= _MOST_READ, among=tells_of_model):
        return why
    if size > _MOST_READ:
        note(f"{folder}: its {size / 2**30:.0f} GiB of weights were checked by their sizes alone")
    return None


_MOST_READ = 2**31
"""Bytes of weights that are read to find damage: a matter of seconds."""


def _is_trainers(path: Path) -> bool:
    return path.is_dir() and _OF_TRAINER.fullmatch(path.name) is not None


def _weight_file(folder: Path) -> Path | None:
    return next((folder / name for name in WHOLE if (folder / name).is_file()), None)


def _cached(name: str) -> tuple[Path, Path]:
    """Return where the cache has a hub model's weights; they are never downloaded."""
    try:
        folder = find_config(name).parent
    except GammaError as error:
        raise GammaError(f"no checkpoint {name!r}: {error}") from error
    file = _weight_file(folder)
    if file is None:
        raise GammaError(
            f"the weights of {name!r} are not in the cache: run hf download {name} first"
        )
    return Path(name), file


def _step(path: Path) -> int | None:
    state = path / STATE
    if state.is_file():
        content = read_json(state)
        step = content.get("global_step") if isinstance(content, dict) else None
        if isinstance(step, int) and not isinstance(step, bool):
            return step
    named = _OF_TRAINER.fullmatch(path.resolve().name)
    return int(named[1]) if named else None


def _refuse(folder: Path) -> Path:
    """Say why a folder without weights has none, and what to type.

    Raises:
        GammaError: Always.
    """
    names = sorted(path.name for path in folder.iterdir())
    if "adapter_config.json" in names:
        raise GammaError(
            f"{folder} holds an adapter alone; the gains are those of the model that it was "
            "trained on, which did not change: give that model"
        )
    if "zero_to_fp32.py" in names or any(name.startswith("global_step") for name in names):
        script = folder / "zero_to_fp32.py"
        raise GammaError(
            f"{folder} holds DeepSpeed's shards of optimizer and weights; put them together with "
            f"python {script} {folder} OUT, and give OUT with --config {folder / 'config.json'}"
        )
    shards = next(
        (p for p in [folder, *sorted(folder.iterdir())] if p.is_dir() and any(p.glob("*.distcp"))),
        None,
    )
    if shards is not None:
        raise GammaError(
            f"{shards} holds the shards of FSDP; put them together with accelerate merge-weights "
            f"{shards} OUT, and give OUT with --config and the model's config.json"
        )
    foreign = [name for name in names if Path(name).suffix in _FOREIGN]
    if foreign:
        kind = _FOREIGN[Path(foreign[0]).suffix]
        raise GammaError(
            f"{folder} holds {foreign[0]} ({kind}) and none of {', '.join(WHOLE)}; give a "
            "checkpoint that save_pretrained wrote, or one PyTorch file by its name"
        )
    runs = [str(p) for p in sorted(folder.iterdir()) if any(map(_is_trainers, p.glob("*")))]
    if runs:
        several = len(runs) > 1
        raise GammaError(
            f"{folder} holds no weights; checkpoints are in {listed(runs)}: give "
            f"{'one of these' if several else runs[0]}"
        )
    inside = ", ".join(names[:8]) or "nothing"
    raise GammaError(
        f"{folder} holds no weights (it holds {inside}); give a checkpoint with one of "
        f"{', '.join(WHOLE)}, or a run's folder with checkpoint-N inside"
    )
