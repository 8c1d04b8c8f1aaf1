"""The memory behind tensors: which tensors share it, and what it held before a pass wrote to it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

from gamma_nlp.graph.reached import tensors_in


class Memory:
    """Keeps a copy of what a pass overwrites, unless the pass itself has made it."""

    def __init__(self) -> None:
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Copy the memory of tensors that are about to be written to."""
        for tensor in tensors:
            for part in (tensor, *inner_tensors(tensor)):
                key = memory_of(part)
                if key is not None and key not in self._made and key not in self._before:
                    storage = part.untyped_storage()
                    if storage.device.type != "meta":
                        with _disable_current_modes():  # a copy is no operation of the model's
                            self._before[key] = (storage, storage.clone())

    def made(self, operands: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        """Note that an operation allocated what its results have and its operands have not."""
        known = {memory_of(tensor) for tensor in operands}
        self._made |= {
            key for r in results if (key := memory_of(r)) is not None and key not in known
        }

    def undo(self) -> None:
        """Put everything back."""
        for storage, before in self._before.values():
            if storage.nbytes() == before.nbytes():
                storage.copy_(before)
        self._before.clear()


def memory_of(tensor: Tensor) -> int | None:
    """Return what identifies the memory of a tensor; ``None`` for sparse and wrapped ones."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None


def same_memory(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors that share memory see all of it alike."""
    return (one.shape, one.stride(), one.storage_offset(), one.dtype) == (
        two.shape, two.stride(), two.storage_offset(), two.dtype,
    )  # fmt: skip


def is_wrapper(tensor: Tensor) -> bool:
    """Return whether operations on a tensor are carried out on others that it holds."""
    own = type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return own or bool(is_traceable_wrapper_subclass(tensor))


def inner_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that a wrapper holds, such as the integers and scales of a matrix."""
    if is_wrapper(tensor):
        yield from tensors_in(vars(tensor))


@functools.cache
def overwritten(func: Any) -> tuple[int, ...]:
    """Return the positions of the arguments that an operation overwrites."""
    schema = getattr(func, "_schema", None)
    return tuple(
        position
        for position, argument in enumerate(schema.arguments if schema else ())
        if not argument.kwarg_only
        and argument.alias_info is not None
        and argument.alias_info.is_write
    )
