"""What users hand to the companions, taken as it is meant or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError
from gamma_nlp.wrappers import unwrap_optimizer


def bare(optimizer: Any) -> Optimizer:
    """The optimizer itself, which accelerate's ``prepare`` wraps; hooks hang on no wrapper.

    Raises:
        GammaError: It is no optimizer.
    """
    found = unwrap_optimizer(optimizer)
    if not isinstance(found, Optimizer) or not hasattr(found, "register_step_post_hook"):
        raise GammaError(
            f"optimizer is {_said(optimizer)}; expected one of torch.optim's kind. A Trainer "
            "makes its own in trainer.create_optimizer()"
        )
    return found


def name_list(names: Any, what: str) -> list[str]:
    """Names as a list.

    Raises:
        GammaError: They are one string, whose letters would count as names, or no strings.
    """
    if isinstance(names, str):
        raise GammaError(f"{what} must be a list of names, got {names!r}; write [{names!r}]")
    found = list(names) if isinstance(names, Iterable) else [names]
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise GammaError(f"{what} must be a list of names, got {_said(wrong[0])}")
    return found


def whole_number(value: Any, what: str) -> int:
    """A number that counts steps.

    Raises:
        GammaError: It is none, or below 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise GammaError(f"{what} must be a whole number, at least 1, got {value!r}")
    return value


def free_key(optimizer: Optimizer, key: str) -> str:
    """``key``, or with a number where other companions save under it with this optimizer."""
    hooks = optimizer._optimizer_state_dict_post_hooks.values()
    taken = {getattr(getattr(hook, "__self__", None), "key", None) for hook in hooks}
    numbered = (f"{key}.{number}" for number in count(2))
    return next(one for one in chain([key], numbered) if one not in taken)


def _said(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def named_parameters(
    optimizer: Optimizer, model: nn.Module | None = None
) -> dict[str, tuple[dict[str, Any], Tensor]]:
    """Group and tensor of each parameter by its name in the model, else in the optimizer."""
    known = {} if model is None else {id(p): name for name, p in model.named_parameters()}
    found = {}
    for i, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{i}.{j}" for j in range(len(group["params"]))]
        for name, parameter in zip(names, group["params"], strict=True):
            found[known.get(id(parameter), name)] = (group, parameter)
    return found
