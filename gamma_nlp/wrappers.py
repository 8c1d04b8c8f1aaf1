"""The user's own model, parameter names and optimizer inside what others wrap around them.

There are two sorts of wrappers, and both change the names of parameters:

=========================  =================================  ==============================
made by                    name of ``h.0.ln.weight``          what it is
=========================  =================================  ==============================
DDP, DataParallel          ``module.h.0.ln.weight``           a *holder*
DeepSpeed                  ``module.h.0.ln.weight``           a *holder*
FSDP1                      ``_fsdp_wrapped_module.h.0...``    a *holder*, at any depth
``torch.compile``          ``_orig_mod.h.0.ln.weight``        a *holder*, at any depth
``checkpoint_wrapper``     ``h.0._checkpoint_wrapped_...``    a *holder*, at any depth
PEFT                       ``base_model.model.h.0.ln...``     an *adapter* around the model
PEFT, a layer with LoRA    ``h.0.fc.base_layer.weight``       an *adapter* around a layer
PEFT, a trained copy       ``ln.modules_to_save.X.weight``    a copy, beside the next
PEFT, its frozen original  ``ln.original_module.weight``      the original
=========================  =================================  ==============================

A **holder** runs the one module that it holds and owns no parameters, so leaving its part out of a
name maps names one to one: :func:`plain_names`. What is keyed by plain names (tables, parameter
groups, saved states) fits the model with and without holders.

DDP, DataParallel and a DeepSpeed engine are told by the name of their class, FSDP and the others by
the attribute that holds. :func:`sharded` says who has cut a parameter into the parts that several
processes hold; ``fully_shard`` and ``parallelize_module`` change parameters and wrap nothing.

An **adapter** owns parameters of its own, and keeps a trained copy of a layer beside the frozen
original. Leaving its parts out as well gives both the same name, the one that the library gave that
layer: :func:`library_names`. That is right for looking up what a layer is, and wrong for anything
that must tell two parameters apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

# Holders by the attribute that holds the module: no other class uses these names, at any depth.
_HOLDS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Holders by the name of their class: they hold at `module`, a name that users use too.
_DATA_PARALLEL = frozenset({"DataParallel", "DistributedDataParallel", "DeepSpeedEngine"})
_COPIES = "DistributedDataParallel"
_MODULE = "module"
_FLAT = ("FlatParameter", "ShardedTensor")
ZERO_3 = "DeepSpeed ZeRO-3"
DTENSOR = "fully_shard, parallelize_module or tp_plan"
"""What :func:`sharded` says of a DTensor: computing with all of it is possible."""

_ADAPTED_MODEL = re.compile(r"^(?:base_model\.model\.)+")
_ADAPTED_LAYER = re.compile(r"\.(?:base_layer|original_module|modules_to_save\.[^.]+)(?=\.|$)")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside all of its holders."""
    while (held := _held(model)) is not None:
        model = held
    return model


def _held(model: nn.Module) -> nn.Module | None:
    """Return the module that a holder holds, ``None`` for any other module."""
    # Not getattr: holders pass on what they lack, so that DDP(compile(m)) would be compile(m) too.
    for name in _HOLDS:
        if (held := model._modules.get(name)) is not None:
            return held
    if any(base.__name__ in _DATA_PARALLEL for base in type(model).__mro__):
        return model._modules.get(_MODULE)
    return None


def is_copied(model: nn.Module) -> bool:
    """Return whether DDP holds the model, which has made parameters the same in every process."""
    while (held := _held(model)) is not None:
        if any(base.__name__ == _COPIES for base in type(model).__mro__):
            return True
        model = held
    return False


def sharded(tensor: torch.Tensor) -> str | None:
    """Return who has cut a tensor into parts for several processes; ``None`` where nobody has.

    Flat partitions of ZeRO stages 1 and 2 are tensors of the optimizer's own and say nothing of
    it: an optimizer that holds other tensors than the model tells them.
    """
    if hasattr(tensor, "ds_tensor") or hasattr(tensor, "ds_status"):
        return ZERO_3
    if mesh_of(tensor) is not None:
        return DTENSOR
    if getattr(tensor, "_fsdp_flattened", False) or type(tensor).__name__ in _FLAT:
        return "FSDP1"
    return None


def mesh_of(tensor: torch.Tensor) -> Any:
    """Return the device mesh of a DTensor; ``None`` for any other tensor."""
    return getattr(tensor, "device_mesh", None)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a DTensor, for which each process of its mesh has to ask; others as is."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def library_model(model: nn.Module) -> nn.Module:
    """Return the model inside holders and PEFT: the one whose class and config a table knows."""
    model = unwrap(model)
    while type(model).__module__.startswith("peft."):
        held = model._modules.get("base_model") or model._modules.get("model")
        if held is None:
            break
        model = unwrap(held)
    return model


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names of all parameters of a model to their names without holders.

    Two names never become one. Give it all names at once: ``module.`` belongs to a holder only
    where every name begins with it, since the user's own ``module`` has neighbours.

    >>> plain_names(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"]).values()
    dict_values(['fc.weight', 'fc.bias'])
    >>> plain_names(["module.weight", "head.weight"]).values()
    dict_values(['module.weight', 'head.weight'])
    """
    plain = {
        name: ".".join(part for part in name.split(".") if part not in _HOLDS) for name in names
    }
    while plain and all(name.startswith(f"{_MODULE}.") for name in plain.values()):
        plain = {name: short.removeprefix(f"{_MODULE}.") for name, short in plain.items()}
    if len(set(plain.values())) < len(plain):
        return {name: name for name in plain}  # `_orig_mod` is the user's own name, with neighbours
    return plain


def library_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names of all parameters of a model to the names that their layers had originally.

    For looking up what a layer is, and for nothing else: a trained copy and its frozen original
    have one name here.

    >>> names = ["base_model.model.ln.original_module.weight",
    ...          "base_model.model.ln.modules_to_save.default.weight"]
    >>> library_names(names).values()
    dict_values(['ln.weight', 'ln.weight'])
    """
    return {
        name: _ADAPTED_LAYER.sub("", _ADAPTED_MODEL.sub("", plain))
        for name, plain in plain_names(names).items()
    }


def unwrap_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside the wrappers of accelerate and DeepSpeed, at any depth."""
    found, inner = optimizer, optimizer
    for _ in range(_DEPTH):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            break
        found = inner if isinstance(inner, Optimizer) else found
    return found


_DEPTH = 8  # more than anybody nests; a wrapper that answers every name would never end
