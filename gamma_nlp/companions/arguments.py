"""Check what users pass to the companions: optimizers, parameter names, numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError, close_to, listed, one_line
from gamma_nlp.wrappers import DTENSOR, sharded, unwrap_optimizer

_OTHERS = " (make_optimizer, param_groups and the trainers take inputs= too)"
FLAT = (
    "flat partitions (DeepSpeed ZeRO), in which no tensor can be told from the next; use "
    "fully_shard or plain data parallel"
)
NamedParameters = dict[str, tuple[dict[str, Any], Tensor]]
"""Group and tensor of each parameter, by name."""


def bare(optimizer: Any) -> Optimizer:
    """Return the optimizer inside the wrapper of accelerate's ``prepare``; it alone takes hooks.

    Raises:
        GammaError: It is not an optimizer.
    """
    found = unwrap_optimizer(optimizer)
    if not isinstance(found, Optimizer) or not hasattr(found, "register_step_post_hook"):
        raise GammaError(
            f"optimizer is {_type_name(optimizer)}; expected a torch.optim optimizer. A Trainer "
            "makes its own in trainer.create_optimizer()"
        )
    return found


def named_parameters(optimizer: Optimizer, model: nn.Module | None = None) -> NamedParameters:
    """Return an optimizer's parameters by their names in the model, else in the optimizer.

    Parameters without a name are called ``"0.3"``: group 0, parameter 3.
    """
    known = {} if model is None else {id(p): name for name, p in model.named_parameters()}
    found = {}
    for i, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{i}.{j}" for j in range(len(group["params"]))]
        if len(names) != len(group["params"]):
            raise GammaError(f"the optimizer holds {listed(names)} in {FLAT}")
        for name, parameter in zip(names, group["params"], strict=True):
            found[known.get(id(parameter), name)] = (group, parameter)
    return found


def first_names(names: Any, model: nn.Module | None) -> list[str]:
    """Return parameter names as a list; a tied one by its first name, which optimizers know.

    Raises:
        GammaError: As :func:`name_list`.
    """
    found = name_list(names)
    if model is None:
        return found
    first: dict[int, str] = {}
    known = {
        n: first.setdefault(id(p), n) for n, p in model.named_parameters(remove_duplicate=False)
    }
    return list(dict.fromkeys(known.get(name, name) for name in found))


def check_known(names: Iterable[str], known: NamedParameters) -> None:
    """Check that an optimizer has parameters of these names.

    Raises:
        GammaError: It lacks one.
    """
    if missing := [name for name in names if name not in known]:
        hint = close_to(missing[0], known) if len(missing) == 1 else ""
        hint = hint or f"; it has {next(iter(known), 'none')!r} and others"
        raise GammaError(
            f"the optimizer has no parameter {listed(missing)}{hint} (pass model= to go by the "
            "model's names)"
        )


def positions(
    optimizer: Optimizer, known: NamedParameters, names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Return the group and the index of each named parameter.

    Raises:
        GammaError: The optimizer lacks one.
    """
    check_known(names, known)
    at = {
        id(parameter): (number, index)
        for number, group in enumerate(optimizer.param_groups)
        for index, parameter in enumerate(group["params"])
    }
    return {name: at[id(known[name][1])] for name in names}


def refuse_parts(
    named: Mapping[str, Tensor], what: str, *, takes: Collection[str] | None = (DTENSOR,)
) -> None:
    """Check that tensors are whole, or cut in a way that can be computed with.

    Args:
        named: The tensors.
        what: Who needs them whole, such as ``UnitNorm``.
        takes: What :func:`gamma_nlp.wrappers.sharded` may say of them; ``None`` for nothing, and
            for something that can be asked before a model is sharded.

    Raises:
        GammaError: This process holds a part of one, so each would find something else.
    """
    for name, tensor in named.items():
        how = sharded(tensor)
        if how is not None and how not in (takes or ()):
            instead = "fully_shard or plain data parallel" if takes else "plain data parallel"
            if takes is None:
                instead = "a whole model, as it is before that"
            raise GammaError(
                f"{name!r} is sharded ({how}), and of the parts each process would find something "
                f"else; {what} takes {instead}"
            )


def held_now(
    optimizer: Optimizer, places: Mapping[str, tuple[int, int]], shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Return the tensors that are in an optimizer's groups now: sharding replaces them.

    Args:
        optimizer: The optimizer.
        places: Group and index of each tensor, by name.
        shapes: What shape each had when its place was found.

    Raises:
        GammaError: Another tensor is there, since an engine put flat partitions in their place.
    """
    groups, found = optimizer.param_groups, {}
    for name, (number, index) in places.items():
        params = groups[number]["params"] if number < len(groups) else []
        if index >= len(params) or params[index].shape != shapes[name]:
            raise GammaError(
                f"{name!r} is no longer in the optimizer, which an engine has given {FLAT}"
            )
        found[name] = params[index]
    return found


def name_list(names: Any) -> list[str]:
    """Return parameter names as a list.

    Raises:
        GammaError: They are one string, whose letters would count as names, or not strings.
    """
    if isinstance(names, str):
        raise GammaError(f"names must be a list of names, got {names!r}; write [{names!r}]")
    found = list(names) if isinstance(names, Iterable) else [names]
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise GammaError(f"names must be a list of names, got {_type_name(wrong[0])}")
    return found


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float; ``True`` and ``False`` are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole_number(value: Any, what: str, least: int = 1) -> int:
    """Return a number that counts steps.

    Raises:
        GammaError: It is not a whole number, or below ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise GammaError(f"{what} must be a whole number, at least {least}, got {value!r}")
    return value


def free_key(optimizer: Optimizer, key: str) -> str:
    """Return ``key``, with a number where another companion already saves under it."""
    hooks = optimizer._optimizer_state_dict_post_hooks.values()
    taken = {getattr(getattr(hook, "__self__", None), "key", None) for hook in hooks}
    numbered = (f"{key}.{number}" for number in count(2))
    return next(one for one in chain([key], numbered) if one not in taken)


def wide(tensor: Tensor) -> torch.dtype:
    """Return the precision to compute norms in: at least float32.

    Raises:
        GammaError: The tensor has complex numbers, or no values.
    """
    if tensor.is_meta:
        raise GammaError(
            f"a tensor of shape {tuple(tensor.shape)} is on the meta device and has no values; "
            "load them first"
        )
    if tensor.is_complex():
        raise GammaError(
            f"a tensor of shape {tuple(tensor.shape)} has complex numbers, for which no effective "
            "learning rate is known; leave it out of names"
        )
    return torch.promote_types(tensor.dtype, torch.float32)


def began_at_zero(memory: float, step: float | Tensor) -> Tensor:
    """Return ``1 - memory ** step``, the weight of all values so far in a running mean.

    It does not cancel in float32, which optimizers count steps in, nor wait for a device.
    """
    return -torch.expm1(torch.as_tensor(step) * (math.log(memory) if memory else -math.inf))


def in_own_words(error: GammaError, call: str) -> str:
    """Return an error of :func:`categorize` with the advice that fits another function.

    Args:
        error: The error.
        call: How to call the function with the model, such as ``scale_invariant(model``.
    """
    text = one_line(error).replace(_OTHERS, "")
    return text.replace("categorize(model, inputs", f"{call}, inputs").replace(
        "categorize(model, method", "table=categorize(model, method"
    )


def _type_name(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
