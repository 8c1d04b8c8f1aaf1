"""What a model must not be for its forward pass to be recorded, and what to do instead.

Each of these would end in a wrong table or in an error from deep inside: a shard of a matrix is a
tensor of its own that no parameter's name leads to, and TorchScript runs where no operation is
seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gamma_nlp.errors import GammaError
from gamma_nlp.graph import input_messages, messages
from gamma_nlp.wrappers import sharded, unwrap

# The second wraps no module: `fully_shard` makes it a base of the class of the user's own.
_SHARD_MODULES = {"FullyShardedDataParallel", "FSDPModule"}


def refuse_obstacles(model: nn.Module, function: str = "categorize") -> None:
    """Check that a model can be run, and its operations be seen.

    Args:
        model: The model, in its wrappers.
        function: What the user called and will call again.

    Raises:
        GammaError: It is sharded, not initialised yet, TorchScript, or has no forward pass.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise GammaError(messages.scripted(name, function))
        bases = {base.__name__ for base in type(module).__mro__}
        if bases & _SHARD_MODULES:
            first = next((own for own, _ in module.named_parameters(name)), name)
            raise GammaError(messages.sharded(first, "FSDP", function))
    for name, tensor in _named_tensors(model):
        if is_lazy(tensor):
            raise GammaError(messages.uninitialised(name, function))
        if how := sharded(tensor):
            raise GammaError(messages.sharded(name, how, function))
    inner = unwrap(model)
    if type(inner).forward is nn.Module.forward and "forward" not in vars(inner):
        raise GammaError(input_messages.no_forward(inner, _methods(inner), function))


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _methods(model: nn.Module) -> list[str]:
    """Return the public methods that a model defines itself."""
    found: dict[str, Any] = {}
    for base in type(model).__mro__:
        if not base.__module__.startswith("torch."):
            found |= {n: f for n, f in vars(base).items() if inspect.isfunction(f)}
    return [name for name in found if not name.startswith("_")]
