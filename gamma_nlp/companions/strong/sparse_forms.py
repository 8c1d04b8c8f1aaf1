"""Pack a tensor with zeros in the smallest of three forms, and unpack it bit for bit.

* dense: as it is;
* mask: one bit an element, and the values that are not zero;
* rows (CSR): where each row of the matrix starts, and column and value of each nonzero.

Only values whose bits are all 0 are left out: -0.0 is kept. A tensor with another number of
dimensions counts as a matrix of its first dimension by the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError

Form = Literal["dense", "mask", "rows"]
PARTS: dict[Form, tuple[str, ...]] = {
    "dense": ("dense",),
    "mask": ("mask", "values"),
    "rows": ("starts", "columns", "values"),
}
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SHORT = 2**16
"""How many columns two bytes can number."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A tensor in one of the forms.

    Attributes:
        form: Which form.
        parts: Its tensors by the names in :data:`PARTS`, on the CPU.
    """

    form: Form
    parts: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())


def pack(tensor: Tensor) -> Packed:
    """Return the smallest form of a tensor; on a tie the simplest."""
    tensor = tensor.detach().cpu().contiguous()
    bits = _bits(tensor)
    if bits is None:
        return Packed(form="dense", parts={"dense": tensor})
    kept = bits != 0
    form = smallest(tensor, int(kept.sum()))
    if form == "dense":
        return Packed(form=form, parts={"dense": tensor})
    values = tensor.reshape(-1)[kept]
    if form == "mask":
        return Packed(form=form, parts={"mask": _join(kept), "values": values})
    rows, columns = _matrix(tuple(tensor.shape))
    counts = kept.view(rows, columns).sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    places = kept.view(rows, columns).nonzero()[:, 1].to(torch.int32)
    if columns <= _SHORT:
        places = places.to(torch.int16)  # wraps, and is unwrapped again
    parts = {"starts": starts.to(torch.int32), "columns": places, "values": values}
    return Packed(form=form, parts=parts)


def sizes(tensor: Tensor, kept: int) -> dict[Form, int]:
    """Return the bytes of a tensor in each possible form, if ``kept`` values are stored."""
    size, count = tensor.element_size(), tensor.numel()
    found: dict[Form, int] = {"dense": size * count}
    if size in _BITS and count and tensor.dtype != torch.bool:
        rows, columns = _matrix(tuple(tensor.shape))
        found["mask"] = math.ceil(count / 8) + size * kept
        if kept < 2**31 and columns < 2**31:
            place = 2 if columns <= _SHORT else 4
            found["rows"] = 4 * (rows + 1) + (place + size) * kept
    return found


def smallest(tensor: Tensor, kept: int) -> Form:
    """Return the form with the fewest bytes."""
    found = sizes(tensor, kept)
    return min(found, key=lambda form: found[form])


def stored(tensor: Tensor) -> int:
    """Return how many elements have a bit that is not 0, so that a packed form keeps them."""
    bits = _bits(tensor.detach())
    return tensor.numel() if bits is None else int((bits != 0).sum())


def unpack(packed: Packed, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the tensor that was packed.

    Raises:
        GammaError: The parts do not fit together, or not ``shape`` and ``dtype``.
    """
    if set(packed.parts) != set(PARTS[packed.form]):
        raise GammaError(f"form {packed.form!r} with parts {sorted(packed.parts)}")
    if packed.form == "dense":
        dense = packed.parts["dense"]
        if tuple(dense.shape) != shape or dense.dtype != dtype:
            raise GammaError(f"{dense.dtype} of shape {tuple(dense.shape)}")
        return dense
    values = packed.parts["values"]
    if values.dtype != dtype or values.dim() != 1:
        raise GammaError(f"values are {values.dtype} of shape {tuple(values.shape)}")
    count = math.prod(shape)
    if packed.form == "mask":
        mask = packed.parts["mask"]
        if mask.dtype != torch.uint8 or tuple(mask.shape) != (math.ceil(count / 8),):
            raise GammaError(f"a mask of {mask.numel()} bytes for {count} elements")
        at = _split(mask, count).nonzero().squeeze(1)
    else:
        at = _row_places(packed.parts, shape)
    if len(at) != len(values):
        raise GammaError(f"{len(values)} values for {len(at)} places")
    flat = torch.zeros(count, dtype=dtype)
    flat[at] = values
    return flat.view(shape)


def _row_places(parts: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    rows, columns = _matrix(shape)
    starts, places = parts["starts"].long(), parts["columns"].long()
    if parts["columns"].dtype == torch.int16:
        places = places & (_SHORT - 1)
    counts = starts.diff()
    if starts.dim() != 1 or len(counts) != rows or int(starts[0]) or bool((counts < 0).any()):
        raise GammaError(f"starts that are not those of {rows} rows")
    if int(starts[-1]) != len(places):
        raise GammaError(f"{len(places)} columns where rows end at {int(starts[-1])}")
    if len(places) and (int(places.min()) < 0 or int(places.max()) >= columns):
        raise GammaError(f"columns outside 0 to {columns - 1}")
    return torch.arange(rows).repeat_interleave(counts) * columns + places


def _bits(tensor: Tensor) -> Tensor | None:
    """Return the elements as flat integers of their size; ``None`` if no integer has that size."""
    kind = _BITS.get(tensor.element_size())
    if kind is None or tensor.dtype == torch.bool or not tensor.numel():
        return None
    return tensor.reshape(-1).view(kind)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    rows = shape[0] if len(shape) > 1 else 1
    return rows, math.prod(shape) // rows if rows else 0


def _join(kept: Tensor) -> Tensor:
    """Pack eight flags in one byte, the first in the lowest bit."""
    padded = torch.nn.functional.pad(kept.to(torch.uint8), (0, -len(kept) % 8))
    return (padded.view(-1, 8) << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _split(mask: Tensor, count: int) -> Tensor:
    flags = (mask.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return flags.view(-1)[:count]
