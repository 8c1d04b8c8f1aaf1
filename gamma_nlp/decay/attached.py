"""What stays with an optimizer: its hooks, through copies too, and how it loads a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gamma_nlp.decay.added_later import AddParamGroup
from gamma_nlp.decay.decided import Decided
from gamma_nlp.decay.loading import Loading
from gamma_nlp.decay.step_hook import hook_if_needed
from gamma_nlp.decay.untrained import watch


def attach(
    optimizer: Optimizer,
    labels: Mapping[str, str] | None = None,
    model: nn.Module | None = None,
    *,
    decided: Decided | None = None,
) -> Optimizer:
    """Give an optimizer made from :func:`.optimizer.decay_groups` its hooks, and return it.

    The hooks decay before each step where a group asks for it, load saved states by parameter
    name with the current decay, and follow the optimizer through deep copies and pickling. With
    ``model``, parameters of it that are unfrozen, added or replaced later, and so do not train,
    are warned of; copies of the optimizer do not watch.

    Args:
        optimizer: Made from such groups.
        labels: Category or role of each parameter, for logs; by default those of ``decided``.
        model: The model of the groups. ``optimizer.add_param_group`` then finds the decay of its
            parameters by name.
        decided: What the groups were made from.
    """
    labels = dict(labels or (decided.labels if decided else {}))
    _add_hooks(optimizer, labels, decided, model)
    if model is not None:
        watch(optimizer, model)
    return optimizer


def is_attached(optimizer: Optimizer) -> bool:
    """Return whether an optimizer went through :func:`attach`, or is a copy of one that did."""
    return "__reduce_ex__" in vars(optimizer)


def decided_for(optimizer: Optimizer) -> Decided | None:
    """Return what the groups of an optimizer were made from, if that is known."""
    adding = vars(optimizer).get("add_param_group")
    return adding.decided if isinstance(adding, AddParamGroup) else None


def _add_hooks(
    optimizer: Optimizer,
    labels: dict[str, str],
    decided: Decided | None,
    model: nn.Module | None = None,
) -> None:
    hook_if_needed(optimizer)
    optimizer.__dict__["add_param_group"] = AddParamGroup(optimizer, model, decided)
    loading = Loading(labels, decided)
    if type(optimizer).load_state_dict is Optimizer.load_state_dict:
        optimizer.register_load_state_dict_pre_hook(loading.before)
        optimizer.register_load_state_dict_post_hook(loading.after)
    else:  # bitsandbytes has its own load_state_dict, which runs no hooks
        optimizer.__dict__["load_state_dict"] = partial(loading.run, optimizer)
    # Copied and pickled optimizers lose their hooks, and would then silently not decay.
    optimizer.__dict__["__reduce_ex__"] = partial(_reduce, optimizer, labels, decided)


def _reduce(
    optimizer: Optimizer, labels: dict[str, str], decided: Decided | None, protocol: Any
) -> tuple[Any, ...]:
    if decided is not None:  # a copy does not know its model, so names mean nothing to it
        decided = dataclasses.replace(decided, decays={}, rates=None)
    return _revive, (type(optimizer), optimizer.__getstate__(), labels, decided)


def _revive(
    optimizer_class: type[Optimizer],
    state: dict[str, Any],
    labels: dict[str, str],
    decided: Decided | None = None,
) -> Optimizer:
    optimizer = optimizer_class.__new__(optimizer_class)
    optimizer.__setstate__(state)
    _add_hooks(optimizer, labels, decided)
    return optimizer
