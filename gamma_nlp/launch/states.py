"""The state of an optimizer in bytes: its own step says, taken on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError, need

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd")
"""Values of ``TrainingArguments.optim`` whose state is known here."""

_TORCH: Mapping[str, type[Optimizer]] = {
    "adamw_torch": torch.optim.AdamW,
    "adamw_torch_fused": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True, kw_only=True)
class States:
    """An optimizer's class with its arguments, and what it keeps for a parameter.

    Attributes:
        cls: The class.
        kwargs: Its arguments.
    """

    cls: type[Optimizer]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    _known: dict[tuple[tuple[int, ...], torch.dtype], int] = field(default_factory=dict, repr=False)

    def bytes_for(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the bytes that it keeps for a parameter of this shape.

        >>> States(cls=torch.optim.AdamW).bytes_for((10, 10), torch.float32)
        804
        """
        if (shape, dtype) not in self._known:
            self._known[shape, dtype] = self._after_a_step(shape, dtype)
        return self._known[shape, dtype]

    def _after_a_step(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"))
        parameter.grad = torch.empty_like(parameter)
        optimizer = self.cls([parameter], lr=1e-3, **self.kwargs)  # type: ignore[call-arg]
        optimizer.step()
        kept = optimizer.state[parameter].values()
        return sum(one.numel() * one.element_size() for one in kept if isinstance(one, Tensor))


def states_of(optim: str, momentum: float = 0.0) -> States:
    """Return the states of the optimizer that the Trainer makes for ``optim``.

    Args:
        optim: One of :data:`OPTIMIZERS`.
        momentum: SGD's.

    Raises:
        GammaError: A momentum that is none, or of another optimizer.
    """
    if not 0 <= momentum < 1:
        raise GammaError(f"momentum must be at least 0 and below 1, got {momentum:g}")
    if momentum and optim != "sgd":
        raise GammaError(f"momentum goes with optim sgd, and this is {optim}")
    if optim == "adafactor":
        module = need("transformers.optimization", "hf", "adafactor needs")
        kwargs = {"scale_parameter": False, "relative_step": False}
        return States(cls=module.Adafactor, kwargs=kwargs)
    return States(cls=_TORCH[optim], kwargs={"momentum": momentum} if momentum else {})
