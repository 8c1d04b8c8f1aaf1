"""A recorder for CPUs that keeps a CUDA graph's rules, so that tests on a CPU see them broken.

Recording does nothing; replaying runs no Python, only the operations on the tensors they had; and
a number may not be read from a tensor while recording (transformers asks whether that goes on, and
then makes its masks without looking at them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.utils import import_utils

T = TypeVar("T")


class Tape:
    """Stands for ``CudaGraphs``."""

    on_gpu = False

    def __init__(self) -> None:
        self.rehearsed = self.recorded = self.replayed = 0

    def rehearse(self, work: Callable[[], T]) -> T:
        self.rehearsed += 1
        return work()

    def record(self, work: Callable[[], T]) -> Callable[[], T]:
        generator = torch.get_rng_state()
        recorder = _Recorder()
        try:
            with recorder, patch.object(import_utils, "is_cuda_stream_capturing", lambda: True):
                result = work()
        finally:
            with torch.no_grad():
                for tensor, value in reversed(recorder.before):
                    tensor.copy_(value)
            torch.set_rng_state(generator)
        self.recorded += 1

        def again() -> T:
            self.replayed += 1
            with torch.no_grad():
                for call, args, kwargs, made in recorder.calls:
                    _write(made, call(*args, **kwargs))
            return result

        return again


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise RuntimeError("operation not permitted when stream is capturing")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before += [(x, x.detach().clone()) for x in _tensors(value)]
        made = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, _tensors(made)))
        return made


def _tensors(value: Any) -> list[Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]


def _write(held: list[Tensor], made: Any) -> None:
    for old, new in zip(held, _tensors(made), strict=True):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)
