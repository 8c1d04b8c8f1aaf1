"""Run a model without epsilons and low precision, so that invariances are exact.

A norm divides by sqrt(var + eps), so y(2w) differs from y(w) by about eps / var: too much to tell
an invariance from a weak dependence, far too little to matter in training. The epsilons are
removed where PyTorch dispatches operations, so it does not matter what a module calls them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

TINY = 1e-24
"""Replaces an epsilon. Not 0, or a signal without variance would become 0 / 0."""
LARGEST = 1e-4
"""A constant up to this that is added to a tensor without negative elements is an epsilon."""
_LOW = (torch.float16, torch.bfloat16, torch.float32)


class Exact(TorchDispatchMode):
    """Replace epsilons by :data:`TINY`, and casts to a lower precision than ``dtype`` by ``dtype``.

    Epsilons are arguments of that name, and constants as in ``(x.var(-1) + 1e-5).sqrt()``.
    """

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in _LOW and self.dtype is torch.float64:
            kwargs["dtype"] = self.dtype
        place = _epsilon_place(func)
        if place is not None and place < len(args) and args[place]:
            args = (*args[:place], TINY, *args[place + 1 :])
        elif _adds_epsilon(func, args, kwargs):
            args = (args[0], TINY)
        return func(*args, **kwargs)


@cache
def _epsilon_place(func: Any) -> int | None:
    names = [argument.name for argument in func._schema.arguments]
    return next((i for i, name in enumerate(names) if name in ("eps", "epsilon")), None)


def _adds_epsilon(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if func.overloadpacket not in (torch.ops.aten.add, torch.ops.aten.add_) or len(args) != 2:
        return False
    signal, constant = args
    return (
        isinstance(constant, float)
        and 0 < constant <= LARGEST
        and not kwargs
        and isinstance(signal, Tensor)
        and signal.is_floating_point()
        and bool((signal >= 0).all())
    )
