"""Count the zeros of a model, and how much smaller it is when they are not stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gamma_nlp.companions.arguments import refuse_parts
from gamma_nlp.companions.strong.sparse_forms import STORABLE, Form, census, sizes, smallest
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import dtype_name

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class SparsityRow:
    """One tensor.

    Attributes:
        names: All its names; tied weights have several.
        dtype: Its dtype, without ``torch.``.
        elements: Number of elements.
        zeros: Number of elements that are 0, of either sign.
        form: How it would be stored; see :mod:`.sparse_forms`.
        dense_bytes: Its size as it is.
        stored_bytes: Its size in that form.
    """

    names: tuple[str, ...]
    dtype: str
    elements: int
    zeros: int
    form: Form
    dense_bytes: int
    stored_bytes: int


@dataclass(frozen=True, kw_only=True)
class SparsityReport:
    """The zeros of a model, tensor by tensor; ``str`` gives a table, iterating yields the rows.

    Attributes:
        rows: Parameters and saved buffers, tied ones once.
        file_bytes: Size of the file, if :func:`.compressed.save_compressed` wrote one.
    """

    rows: tuple[SparsityRow, ...]
    file_bytes: int | None = None

    def __iter__(self) -> Iterator[SparsityRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return sum(row.elements for row in self.rows)

    @property
    def zeros(self) -> int:
        """Zeros of all tensors."""
        return sum(row.zeros for row in self.rows)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all tensors as they are."""
        return sum(row.dense_bytes for row in self.rows)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors without their zeros, the indices of the other values included."""
        return sum(row.stored_bytes for row in self.rows)

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return self.zeros / max(self.elements, 1)

    @property
    def parameters_to_nonzeros(self) -> float:
        """Elements over nonzeros: the compression that papers quote, which ignores indices."""
        return max(self.elements, 1) / max(self.elements - self.zeros, 1)

    @property
    def compression(self) -> float:
        """Dense bytes over stored bytes, or over the file's size where there is a file."""
        return max(self.dense_bytes, 1) / max(self.file_bytes or self.stored_bytes, 1)

    def __str__(self) -> str:
        names = [" = ".join(row.names) for row in self.rows]
        width = max([len(name) for name in names] + [6])
        lines = [
            f"{'tensor':<{width}}  {'dtype':<8}  {'elements':>11}  {'zeros':>6}  {'form':<11}  "
            f"{'bytes':>12}"
        ]
        for name, row in zip(names, self.rows, strict=True):
            lines.append(
                f"{name:<{width}}  {row.dtype:<8}  {row.elements:>11,}  "
                f"{row.zeros / max(row.elements, 1):>6.1%}  {row.form:<11}  {row.stored_bytes:>12,}"
            )
        lines.append(
            f"{self.zeros:,} zeros in {self.elements:,} elements ({self.sparsity:.1%}): elements / "
            f"nonzeros {self.parameters_to_nonzeros:.2f}, dense bytes / stored bytes "
            f"{max(self.dense_bytes, 1) / max(self.stored_bytes, 1):.2f}"
        )
        if self.file_bytes is not None:
            lines.append(
                f"on disk {self.file_bytes:,} bytes instead of {self.dense_bytes:,}: compression "
                f"{self.compression:.2f}"
            )
        return "\n".join(lines)


def sparsity_report(model: nn.Module) -> SparsityReport:
    """Count the zeros of a model's parameters and saved buffers.

    Args:
        model: Any module; tied tensors count once.

    Raises:
        GammaError: Its state holds something other than plain tensors, or it is sharded.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(64, 100, bias=False)
        >>> _ = nn.init.zeros_(layer.weight[:90])
        >>> report = sparsity_report(layer)
        >>> report.sparsity, round(report.parameters_to_nonzeros, 1), report.rows[0].form
        (0.9, 10.0, 'mask')
    """
    rows = []
    for names, tensor in tensors(model).items():
        counted = census(tensor)
        form = smallest(tensor, counted)
        found = sizes(tensor, counted)
        rows.append(
            SparsityRow(
                names=names,
                dtype=dtype_name(tensor),
                elements=tensor.numel(),
                zeros=counted.zeros,
                form=form,
                dense_bytes=found["dense"],
                stored_bytes=found[form],
            )
        )
    return SparsityReport(rows=tuple(rows))


def tensors(model: nn.Module) -> Mapping[tuple[str, ...], Tensor]:
    """Return the tensors of a model's state, each once, by all its names.

    Raises:
        GammaError: An entry is not a tensor, has no data (meta device) or a dtype that cannot be
            stored.
    """
    names: dict[tuple[object, ...], list[str]] = {}
    found: dict[tuple[object, ...], Tensor] = {}
    refuse_parts(dict(model.named_parameters()), "the count of zeros", takes=None)
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise GammaError(
                f"{name!r} in the model's state is a {type(tensor).__name__} (extra state); only "
                "tensors can be counted and stored"
            )
        if tensor.device.type == "meta":
            raise GammaError(f"{name!r} is on the meta device and has no values; load it first")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise GammaError(f"{name!r} is not a plain tensor ({tensor.layout}, {tensor.dtype})")
        if tensor.dtype not in STORABLE:
            raise GammaError(
                f"{name!r} is {dtype_name(tensor)}, whose values cannot be counted and stored; "
                "convert it to another dtype first"
            )
        at: tuple[object, ...] = (name,)
        if tensor.numel():
            shape, stride = tuple(tensor.shape), tensor.stride()
            at = (tensor.device, tensor.data_ptr(), shape, stride, tensor.dtype)
        names.setdefault(at, []).append(name)
        found[at] = tensor
    return {tuple(names[at]): tensor for at, tensor in found.items()}
