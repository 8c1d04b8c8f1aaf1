"""The user's own model, parameter names and optimizer inside what others wrap around them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own model inside DDP, FSDP1's and ``torch.compile``'s wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in (
            "DataParallel",
            "DistributedDataParallel",
            "FullyShardedDataParallel",
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


WRAPPERS = re.compile(
    r"^(?:module\.|_orig_mod\.|base_model\.model\.)+|\b_orig_mod\.|\._checkpoint_wrapped_module"
)

PEFT_PARTS = re.compile(r"\.(?:base_layer|original_module|modules_to_save\.[^.]+)(?=\.|$)")


def core(model: nn.Module) -> nn.Module:
    """The model inside PEFT's wrapper."""
    while type(model).__module__.startswith("peft."):
        inner = getattr(model, "base_model", None)
        inner = getattr(inner, "model", inner)
        if not isinstance(inner, nn.Module) or inner is model:
            break
        model = inner
    return model


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers (DDP, compile, PEFT) put into it."""
    return PEFT_PARTS.sub("", WRAPPERS.sub("", name))


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names of all parameters of a model to what they are without wrappers.

    So a checkpoint of a wrapped model (data parallel, compile) fits the bare one.
    """
    wrappers = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
    plain = {
        name: ".".join(part for part in name.split(".") if part not in wrappers) for name in names
    }
    # Only data parallel puts everything below "module"; a user's own "module" has neighbours.
    while plain and all(name.startswith("module.") for name in plain.values()):
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    return plain


def inner(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    return optimizer
