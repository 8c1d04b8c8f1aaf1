"""Pack a tensor with zeros in the smallest of several forms, and unpack it bit for bit.

* dense: as it is;
* mask: one bit an element, and the values that are not zero;
* rows (CSR): where each row of the matrix starts, and column and value of each nonzero;
* signed mask, signed rows: the same, and one bit for each zero: whether it is -0.0. Pruning by a
  product with a mask leaves as many of these as of 0.0.

Other values are left out only if all their bits are 0. A tensor with another number of dimensions
counts as a matrix of its first dimension by the rest, a complex one as its real and imaginary parts
side by side. Dtypes that safetensors or torch's indexing cannot handle travel as integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError

Form = Literal["dense", "mask", "rows", "signed mask", "signed rows"]
PARTS: dict[Form, tuple[str, ...]] = {
    "dense": ("dense",),
    "mask": ("mask", "values"),
    "rows": ("starts", "columns", "values"),
    "signed mask": ("mask", "signs", "values"),
    "signed rows": ("starts", "columns", "signs", "values"),
}
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SIGNED = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2,
}  # fmt: skip
_NATIVE = _SIGNED | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
_REAL = {
    torch.complex128: torch.float64, torch.complex64: torch.float32, torch.complex32: torch.float16,
}  # fmt: skip
_AS_INTEGERS = {
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e8m0fnu, torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
}  # fmt: skip
STORABLE = frozenset(_NATIVE | _AS_INTEGERS | set(_REAL))
"""The dtypes that come back bit for bit."""
HEADER = 100
"""About how many bytes a part takes in a file's header."""
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


@dataclass(frozen=True, kw_only=True)
class Census:
    """What a tensor's elements are; those of a complex tensor are counted one by one in ``zeros``.

    Attributes:
        zeros: Elements that are 0, of either sign.
        kept: Values with a bit that is not 0.
        minus: Values among these that are -0.0.
    """

    zeros: int
    kept: int
    minus: int


def census(tensor: Tensor) -> Census:
    """Count a tensor's zeros and the values that a packed form would keep."""
    tensor = _plain(tensor)
    bits = _integers(tensor)
    minus = _minus_zeros(bits, tensor.dtype)
    nothing = minus if tensor.dtype == torch.float8_e8m0fnu else (bits == 0) | minus  # has no 0
    whole = nothing.view(-1, 2).all(1) if tensor.is_complex() else nothing
    return Census(zeros=int(whole.sum()), kept=int((bits != 0).sum()), minus=int(minus.sum()))


def pack(tensor: Tensor) -> Packed:
    """Return the smallest form of a tensor; on a tie the simplest."""
    tensor = _plain(tensor)
    form = smallest(tensor, census(tensor))
    bits, carrier = _integers(tensor), _carrier(tensor.dtype)
    if form == "dense":
        dense = tensor if carrier == tensor.dtype else bits.view(carrier).view(_shape(tensor))
        return Packed(form=form, parts={"dense": dense})
    kept, parts = bits != 0, {}
    if form.startswith("signed"):
        minus = _minus_zeros(bits, tensor.dtype)
        kept = kept & ~minus
        parts["signs"] = _join(minus[~kept])
    parts["values"] = bits[kept].view(carrier)
    if form.endswith("mask"):
        return Packed(form=form, parts={**parts, "mask": _join(kept)})
    rows, columns = _matrix(_shape(tensor))
    counts = kept.view(rows, columns).sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    places = kept.view(rows, columns).nonzero()[:, 1].to(torch.int32)
    if columns <= _SHORT:
        places = places.to(torch.int16)  # wraps, and is unwrapped again
    return Packed(form=form, parts={**parts, "starts": starts.to(torch.int32), "columns": places})


def sizes(tensor: Tensor, found: Census) -> dict[Form, int]:
    """Return the bytes of a tensor in each possible form."""
    count, size = math.prod(_shape(tensor)), _bits_of(tensor.dtype).itemsize
    options: dict[Form, int] = {"dense": size * count}
    if not count or tensor.dtype == torch.bool:
        return options
    rows, columns = _matrix(_shape(tensor))
    place = 2 if columns <= _SHORT else 4
    numbered = found.kept < 2**31 and columns < 2**31
    options["mask"] = math.ceil(count / 8) + size * found.kept
    if numbered:
        options["rows"] = 4 * (rows + 1) + (place + size) * found.kept
    if found.minus:
        kept = found.kept - found.minus
        signs = math.ceil((count - kept) / 8)
        options["signed mask"] = math.ceil(count / 8) + signs + size * kept
        if numbered:
            options["signed rows"] = 4 * (rows + 1) + signs + (place + size) * kept
    return options


def smallest(tensor: Tensor, found: Census) -> Form:
    """Return the form with the fewest bytes in a file."""
    options = sizes(tensor, found)
    return min(options, key=lambda form: options[form] + HEADER * len(PARTS[form]))


def unpack(packed: Packed, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the tensor that was packed.

    Raises:
        GammaError: The parts do not fit together, or not ``shape`` and ``dtype``.
    """
    if set(packed.parts) != set(PARTS[packed.form]):
        raise GammaError(f"form {packed.form!r} with parts {sorted(packed.parts)}")
    parts_shape = (*shape, 2) if dtype.is_complex else shape
    if packed.form == "dense":
        dense = packed.parts["dense"]
        if tuple(dense.shape) != parts_shape or dense.dtype != _carrier(dtype):
            raise GammaError(f"{dense.dtype} of shape {tuple(dense.shape)}")
        return dense if dense.dtype == dtype else _typed(dense, shape, dtype)
    values = packed.parts["values"]
    if values.dtype != _carrier(dtype) or values.dim() != 1:
        raise GammaError(f"values are {values.dtype} of shape {tuple(values.shape)}")
    count = math.prod(parts_shape)
    if packed.form.endswith("mask"):
        mask = packed.parts["mask"]
        if mask.dtype != torch.uint8 or tuple(mask.shape) != (math.ceil(count / 8),):
            raise GammaError(f"a mask of {mask.numel()} bytes for {count} elements")
        at = _split(mask, count).nonzero().squeeze(1)
    else:
        at = _row_places(packed.parts, parts_shape)
    if len(at) != len(values):
        raise GammaError(f"{len(values)} values for {len(at)} places")
    flat = torch.zeros(count, dtype=_bits_of(dtype))
    flat[at] = values.view(flat.dtype)
    if packed.form.startswith("signed"):
        free = torch.ones(count, dtype=torch.bool).index_fill_(0, at, False).nonzero().squeeze(1)
        signs = packed.parts["signs"]
        if signs.dtype != torch.uint8 or tuple(signs.shape) != (math.ceil(len(free) / 8),):
            raise GammaError(f"signs of {signs.numel()} bytes for {len(free)} zeros")
        flat[free[_split(signs, len(free)).bool()]] = torch.iinfo(flat.dtype).min
    return _typed(flat, shape, dtype)


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


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor's values; a complex element has two."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)


def _bits_of(dtype: torch.dtype) -> torch.dtype:
    return _BITS[_REAL.get(dtype, dtype).itemsize]


def _carrier(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a file holds the values."""
    return dtype if dtype in _NATIVE else _bits_of(dtype)


def _integers(tensor: Tensor) -> Tensor:
    """Return the values as flat integers of their size."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.reshape(-1).view(_bits_of(tensor.dtype))


def _typed(values: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    flat = values.reshape(-1).view(_REAL.get(dtype, dtype))
    return torch.view_as_complex(flat.view(*shape, 2)) if dtype.is_complex else flat.view(shape)


def _minus_zeros(bits: Tensor, dtype: torch.dtype) -> Tensor:
    signed = _REAL.get(dtype, dtype) in _SIGNED
    return (
        bits == torch.iinfo(bits.dtype).min if signed else torch.zeros_like(bits, dtype=torch.bool)
    )


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
