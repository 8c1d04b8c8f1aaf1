"""Save a model's state in a file without its zeros, and load it back bit for bit.

The file is safetensors: each tensor in the smallest of the forms of :mod:`.sparse_forms`, under its
name (dense) or its name and a part (``fc.weight#values``). The header says which parts make up a
tensor.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.strong.sparse_forms import PARTS, Packed, pack, unpack
from gamma_nlp.companions.strong.sparsity import SparsityReport, sparsity_report, tensors
from gamma_nlp.errors import GammaError, listed, need, one_line, shown
from gamma_nlp.gains.table import dtype_name

FORMAT = "gamma_nlp.compressed.1"


def save_compressed(model: nn.Module, path: str | os.PathLike[str]) -> SparsityReport:
    """Write a model's parameters and saved buffers without their zeros.

    Args:
        model: Any module; tied tensors are written once.
        path: The file, such as ``model.sparse.safetensors``; its folder is made if absent.

    Returns:
        The sparsity report, with the size of the file.

    Raises:
        GammaError: The model's state holds something other than plain tensors, the file cannot be
            written, or safetensors is not installed.
    """
    safetensors = _safetensors()
    content: dict[str, Tensor] = {}
    index: list[dict[str, Any]] = []
    for names, tensor in tensors(model).items():
        packed = pack(tensor)
        dtype = dtype_name(tensor)
        entry = {"names": names, "form": packed.form, "shape": list(tensor.shape), "dtype": dtype}
        index.append(entry)
        for part, data in packed.parts.items():
            key = _key(names[0], part)
            if key in content:
                raise GammaError(f"two tensors would be written as {key!r}; rename one of them")
            # safetensors refuses tensors that share memory, as views of one buffer do.
            content[key] = data.clone() if part == "dense" else data
    path = Path(path)
    if path.is_dir():
        raise GammaError(f"{str(path)!r} is a folder; give the name of a file in it")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"format": FORMAT, "tensors": json.dumps(index)}
        safetensors.torch.save_file(content, draft, metadata=header)
        os.replace(draft, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise GammaError(
            f"{str(path)!r} cannot be written ({one_line(error)}); give another path"
        ) from error
    finally:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)
    return replace(sparsity_report(model), file_bytes=path.stat().st_size)


def load_compressed(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Load a file of :func:`save_compressed` into a model with the same tensors.

    The model does not change unless everything fits.

    Raises:
        GammaError: The file is missing, cut short or of another kind; its tensors have other
            names, shapes or dtypes than the model's; or safetensors is not installed.
    """
    read = _read(Path(path))
    own = model.state_dict()
    missing, extra = own.keys() - read.keys(), read.keys() - own.keys()
    if missing or extra:
        problems = [f"it lacks {listed(sorted(missing))}"] if missing else []
        problems += [f"the model has no {listed(sorted(extra))}"] if extra else []
        raise GammaError(f"{path} is of another model: {'; '.join(problems)}")
    for name, tensor in own.items():
        found = read[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise GammaError(
                f"{path}: {name!r} is {_dtype_and_shape(found)}, the model's is "
                f"{_dtype_and_shape(tensor)}; make the model with the settings and the dtype it "
                "was saved with"
            )
        if tensor.device.type == "meta":
            raise GammaError(f"{name!r} is on the meta device; call model.to_empty(device=...)")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(read[name])


def _dtype_and_shape(tensor: Tensor) -> str:
    return f"{dtype_name(tensor)} of shape {tuple(tensor.shape)}"


def _key(name: str, part: str) -> str:
    return name if part == "dense" else f"{name}#{part}"


def _read(path: Path) -> dict[str, Tensor]:
    safetensors = _safetensors()
    if not path.is_file():
        raise GammaError(f"there is no file {str(path)!r}; save_compressed(model, path) writes one")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # its own error class, or the operating system's
        raise GammaError(f"{path} is not a whole safetensors file ({one_line(error)})") from error
    if header.get("format") != FORMAT:
        raise GammaError(
            f"{path} was not written by save_compressed (its format is {header.get('format')!r}, "
            f"expected {FORMAT!r})"
        )
    read: dict[str, Tensor] = {}
    name = "its index"
    try:
        for entry in json.loads(header["tensors"]):
            name, form = entry["names"][0], entry["form"]
            parts = {part: content[_key(name, part)] for part in PARTS[form]}
            dtype = getattr(torch, entry["dtype"])
            tensor = unpack(Packed(form=form, parts=parts), _shape(entry["shape"]), dtype)
            read |= dict.fromkeys(entry["names"], tensor)
    except GammaError as error:
        raise GammaError(f"{path} is damaged at {shown(name)}: {error}") from None
    except Exception as error:  # an index that was tampered with fails in many ways
        raise GammaError(f"{path} is damaged: {type(error).__name__} {one_line(error)}") from None
    return read


def _shape(sizes: Any) -> tuple[int, ...]:
    if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise GammaError(f"a shape of {shown(sizes)}")
    return tuple(sizes)


def _safetensors() -> Any:
    need("safetensors.torch", "hf", "compressed files need")
    return need("safetensors", "hf", "compressed files need")
