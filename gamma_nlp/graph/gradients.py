"""Gradients that a forward pass takes itself: forces, inner steps of training.

A force field returns the gradient of its energy; a model that trains at test time updates weights
in its forward pass. The way there and back is PyTorch's, not the model's, so it is not recorded:
:class:`Gradients` hands the call to the recorder, which runs it unseen and says what came out. ::

    x ── model ── energy ── autograd.grad ──▶ force
    └── seen ─────────┘     unseen            an activation made of energy and x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import messages
from gamma_nlp.graph.as_found import tensors_in

Run = Callable[[], Any]
_CALLS = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)


class NeedsGradientsError(BaseException):
    """The pass asks for a gradient under ``no_grad``: run it again with gradients on."""


class Gradients(TorchFunctionMode):
    """Call ``take(run, outputs, inputs)`` in place of every gradient that the pass takes.

    Args:
        take: Runs the call unseen, and returns what it gives. ``inputs`` is empty for
            ``backward``, which leaves its gradients at the parameters.
        where: Returns the name of the module that is running.
        switched_on: Whether the pass runs with gradients already; else one that it cannot take
            raises :class:`NeedsGradientsError`.
    """

    def __init__(
        self,
        take: Callable[[Run, Sequence[Tensor], Sequence[Tensor]], Any],
        where: Callable[[], str],
        *,
        switched_on: bool,
    ) -> None:
        super().__init__()
        self._take, self._where, self._switched_on = take, where, switched_on

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "_make_dual":
            raise GammaError(messages.forward_mode(self._where()))
        if func not in _CALLS:
            return func(*args, **kwargs)
        given = dict(zip(("outputs", "inputs"), args, strict=False)) | kwargs
        outputs = tensors_in(given.get("outputs", given.get("tensors", given.get("self"))))
        if not self._switched_on and not any(output.requires_grad for output in outputs):
            raise NeedsGradientsError
        inputs = tensors_in(given.get("inputs")) if func is torch.autograd.grad else []
        return self._take(
            lambda: func(*args, **kwargs), [*map(innermost, outputs)], [*map(innermost, inputs)]
        )


def innermost(tensor: Tensor) -> Tensor:
    """Return the tensor that operations see inside those of ``torch.func``."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
