"""Record a product with a quantised matrix as the one operation that the model asks for.

A tensor subclass may carry out ``F.linear(x, weight)`` in Python, in many operations: quantise x,
multiply integers, scale the result. That is how the product is computed, not what the model does::

    the model computes         inside the subclass
    x ── linear(weight) ──▶    x ──┬── amax ────────────────────────── * ──▶
                                   └── / ── round ── integer product ──┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gamma_nlp.graph import operations
from gamma_nlp.graph.memory import is_wrapper

_PLAIN = (Tensor.__torch_function__.__func__, torch._C._disabled_torch_function_impl)  # type: ignore[attr-defined]

Record = Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]


class WholeCalls(TorchFunctionMode):
    """Call ``record(name, run, args)`` for a product that a tensor subclass carries out itself."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        name = "convolution" if name in ("conv1d", "conv2d", "conv3d") else name
        every = (*args, *(kwargs or {}).values())
        if name in operations.CONTRACTIONS and any(map(_computes, every)):
            return self._record(name, lambda: func(*args, **(kwargs or {})), every)
        return func(*args, **(kwargs or {}))


def _computes(value: Any) -> bool:
    """Return whether a tensor subclass carries out functions of PyTorch in Python."""
    if not isinstance(value, Tensor) or not is_wrapper(value):
        return False
    own = type(value).__torch_function__
    return getattr(own, "__func__", own) not in _PLAIN
