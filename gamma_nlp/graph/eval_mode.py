"""Switch a model to eval mode for one pass, without letting it fold its parameters.

Some models do more in ``eval()`` than set a flag. Three sorts, and what to do with each:

==============================================  ================================================
a model's own ``train()`` or ``eval()``         in the pass
==============================================  ================================================
sets flags of its own (layer drop, noise)       is called, since the pass needs them
computes with parameters: merges LoRA into      is left out: only the flags ``training`` are set,
its weight, fuses a batch norm, swaps averages  so that each parameter is still seen
raises (exported models)                        is left out
==============================================  ================================================

Some models of the second sort cannot run without what they compute there, a cache for inference.
Where the pass fails, it is run again with their own ``eval()`` called.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gamma_nlp.graph.as_found import AsFound
from gamma_nlp.graph.memory import memory_of


def to_eval(model: nn.Module) -> bool:
    """Switch to eval mode; return whether the model's own ``eval()`` was left out."""
    if not any(module.training for module in model.modules()):
        return False
    if has_own_eval(model):
        found = AsFound(model)
        try:
            with _Watch(found.tensors):
                model.eval()
        except (_ComputesError, Exception):
            found.restore()
            for module in model.modules():
                module.training = False
            return True
    else:
        model.eval()
    return False


def has_own_eval(model: nn.Module) -> bool:
    """Return whether a model or a part of it does more in ``eval()`` than set a flag."""
    return any(
        name in vars(module) or getattr(type(module), name) is not getattr(nn.Module, name)
        for module in model.modules()
        for name in ("train", "eval")
    )


class _ComputesError(BaseException):
    """Not an ``Exception``, so that no ``eval()`` handles it."""


class _Watch(TorchDispatchMode):
    """Stop at the first operation on one of these tensors, or on memory that it shares."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self._own = {_memory(tensor) for tensor in tensors if tensor.is_floating_point()}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and _memory(leaf) in self._own:
                raise _ComputesError
        return func(*args, **kwargs)


def _memory(tensor: Tensor) -> int:
    known = memory_of(tensor)
    return -id(tensor) if known is None else known  # a sparse or wrapped one has none
