"""Save a model's state in a file without its zeros, and load it back bit for bit.

The file is safetensors: each tensor in the smallest of the forms of :mod:`.sparse_forms`, under its
name (dense) or its name and a part (``fc.weight#values``). The header says which parts make up a
tensor.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.strong.sparse_forms import PARTS, Packed, pack, unpack
from gamma_nlp.companions.strong.sparsity import SparsityReport, sparsity_report, tensors
from gamma_nlp.errors import GammaError, listed, need, one_line, shown
from gamma_nlp.gains.table import dtype_name

FORMAT = "gamma_nlp.compressed.2"
READABLE = ("gamma_nlp.compressed.1", FORMAT)


def save_compressed(model: nn.Module, path: str | os.PathLike[str]) -> SparsityReport:
    """Write a model's parameters and saved buffers without their zeros.

    Args:
        model: Any module; tied tensors are written once.
        path: The file, such as ``model.sparse.safetensors``; its folder is made if absent.

    Returns:
        The sparsity report, with the size of the file.

    Raises:
        GammaError: The model's state holds something other than plain tensors, or a dtype that
            would not come back; the file cannot be written, or safetensors is not installed.
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
            names, shapes or dtypes than the model's, or different values for tied ones; or
            safetensors is not installed.
    """
    path = Path(path)
    own = model.state_dict()
    read = _read(path, own)
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
    pairs = [_once(path, name, tensor, read) for name, tensor in own.items()]
    _check_tied(path, own, read)
    with torch.no_grad():
        for target, source in pairs:
            target.copy_(source)


def _once(
    path: Path, name: str, tensor: Tensor, read: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return a tensor's memory and what to write there: an expanded tensor has each value once.

    Raises:
        GammaError: The file has different values for one place in memory.
    """
    target, source = tensor, read[name]
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:
            first = source.narrow(dim, 0, 1)
            if not _same_bits(first.expand_as(source), source):
                raise GammaError(
                    f"{path}: {name!r} has different values where the model has one value, "
                    f"expanded; call .contiguous() on the model's first"
                )
            target, source = target.narrow(dim, 0, 1), first
    return target, source


def _check_tied(path: Path, own: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> None:
    """Check that tensors that share memory in the model have the same values in the file."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in own.items():
        if not tensor.numel():
            continue
        layout = (tuple(tensor.shape), tensor.stride())
        if tensor.is_contiguous():
            layout = ((tensor.numel(),), (1,))
        other = first.setdefault((tensor.device, tensor.data_ptr(), tensor.dtype, layout), name)
        if not _same_bits(read[other].reshape(-1), read[name].reshape(-1)):
            raise GammaError(
                f"{path}: {other!r} and {name!r} have different values, but in the model they are "
                "tied; untie them before loading, or save a model in which they are tied"
            )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _dtype_and_shape(tensor: Tensor) -> str:
    return f"{dtype_name(tensor)} of shape {tuple(tensor.shape)}"


def _key(name: str, part: str) -> str:
    return name if part == "dense" else f"{name}#{part}"


def _read(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the file's tensors by name; what is much larger than the model is never unpacked."""
    safetensors = _safetensors()
    if not path.is_file():
        raise GammaError(f"there is no file {str(path)!r}; save_compressed(model, path) writes one")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # its own error class, or the operating system's
        raise GammaError(f"{path} is not a whole safetensors file ({one_line(error)})") from error
    if header.get("format") not in READABLE:
        raise GammaError(
            f"{path} was not written by save_compressed (its format is "
            f"{shown(header.get('format'))}, expected {FORMAT!r})"
        )
    read: dict[str, Tensor] = {}
    name = "its index"
    try:
        index = json.loads(header["tensors"])
        _check_size(path, index, own)
        for entry in index:
            name, form = entry["names"][0], entry["form"]
            parts = {part: content[_key(name, part)] for part in PARTS[form]}
            dtype = getattr(torch, entry["dtype"])
            tensor = unpack(Packed(form=form, parts=parts), _shape(entry["shape"]), dtype)
            read |= dict.fromkeys(entry["names"], tensor)
    except _TooLarge:
        raise
    except GammaError as error:
        raise GammaError(f"{path} is damaged at {shown(name)}: {error}") from None
    except Exception as error:  # an index that was tampered with fails in many ways
        raise GammaError(f"{path} is damaged: {type(error).__name__} {one_line(error)}") from None
    return read


class _TooLarge(GammaError):
    """The file is of a larger model, whose memory is not ours to take."""


def _check_size(path: Path, index: Any, own: Mapping[str, Tensor]) -> None:
    """Refuse a file that says it is far larger than the model, before any memory is taken."""
    declared = sum(math.prod(_shape(entry["shape"])) for entry in index)
    room = sum(tensor.numel() for tensor in own.values())
    if declared > 2 * room:  # up to there the tensor that does not fit is named
        raise _TooLarge(
            f"{path} is of another model: it says that it holds {declared:,} values, and the model "
            f"has room for {room:,}"
        )


def _shape(sizes: Any) -> tuple[int, ...]:
    if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise GammaError(f"a shape of {shown(sizes)}")
    return tuple(sizes)


def _safetensors() -> Any:
    need("safetensors.torch", "hf", "compressed files need")
    return need("safetensors", "hf", "compressed files need")
