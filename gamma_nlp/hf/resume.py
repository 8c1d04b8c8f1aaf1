"""Resume a Trainer run under other parameter groups: states follow the parameters' names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

from gamma_nlp.decay.saved_state import DECAY_KEYS, fit_scheduler_state
from gamma_nlp.errors import GammaError
from gamma_nlp.wrappers import unwrap_optimizer

logger = logging.getLogger("gamma_nlp")


@contextmanager
def fitted_loading(
    optimizer: Any, scheduler: Any, stock: Sequence[Sequence[str]]
) -> Iterator[None]:
    """Within the block, fit every state passed to ``load_state_dict`` of either.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`, wrapped by accelerate or not.
        scheduler: The learning-rate scheduler of the run.
        stock: Parameter names of the stock Trainer's groups, for states without names.

    Raises:
        GammaError: The saved state does not fit. Nothing has been loaded then.
    """
    bare = unwrap_optimizer(optimizer)
    saved_names: list[Sequence[str]] = []

    def load_optimizer(load: Callable[..., Any], state: Mapping[str, Any]) -> Any:
        named = with_names(state, bare, stock)
        saved_names.extend(group["param_names"] for group in named["param_groups"])
        return load(named)

    def load_scheduler(load: Callable[..., Any], state: Mapping[str, Any]) -> Any:
        return load(fit_scheduler_state(state, bare, saved_names or None))

    with _loading(optimizer, load_optimizer), _loading(scheduler, load_scheduler):
        yield


@contextmanager
def _loading(target: Any, replacement: Callable[..., Any]) -> Iterator[None]:
    own = vars(target).get("load_state_dict")
    load = target.load_state_dict
    target.load_state_dict = lambda state: replacement(load, state)
    try:
        yield
    finally:
        if own is None:
            del target.load_state_dict
        else:
            target.load_state_dict = own


def decays(optimizer: Any) -> list[dict[str, Any]]:
    """Return the decay keys of each group, to keep for :func:`reapply`."""
    return [
        {key: group[key] for key in DECAY_KEYS if key in group}
        for group in unwrap_optimizer(optimizer).param_groups
    ]


def reapply(optimizer: Any, present: Sequence[Mapping[str, Any]]) -> None:
    """Restore each group's decay after FSDP or DeepSpeed have loaded the state their own way."""
    groups = unwrap_optimizer(optimizer).param_groups
    if len(groups) != len(present):
        raise GammaError(
            f"the checkpoint has {len(groups)} parameter groups, this policy makes {len(present)}; "
            "a sharded checkpoint resumes only under a policy with the same groups"
        )
    for number, (saved, now) in enumerate(zip(decays(optimizer), present, strict=True)):
        if saved != now:
            logger.info("decay of group %d after load: %s -> %s", number, saved, dict(now))
        for key in DECAY_KEYS:
            groups[number].pop(key, None)
        groups[number].update(now)


def with_names(
    state: Mapping[str, Any], optimizer: Optimizer, stock: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return a saved optimizer state whose groups carry ``param_names``.

    A state without them is taken for the stock Trainer's, if counts and shapes agree.

    Raises:
        GammaError: They do not.
    """
    groups = state["param_groups"]
    if all("param_names" in group for group in groups):
        return dict(state)
    sizes = [len(group["params"]) for group in groups]
    expected = [len(names) for names in stock]
    if sizes != expected:
        raise GammaError(
            f"the checkpoint's optimizer has groups of {sizes} parameters without names; those of "
            f"the stock Trainer would be {expected} for this model. Freeze the same parameters as "
            "in that run, or delete optimizer.pt and scheduler.pt in the checkpoint to continue "
            "with a fresh optimizer"
        )
    named = [
        {**group, "param_names": list(names)} for group, names in zip(groups, stock, strict=True)
    ]
    _check_shapes(state, named, optimizer)
    logger.info("the checkpoint is from a stock Trainer: its optimizer state is matched by name")
    return {**state, "param_groups": named}


def _check_shapes(
    state: Mapping[str, Any], named: Sequence[Mapping[str, Any]], optimizer: Optimizer
) -> None:
    shapes = {
        name: parameter.shape
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    for group in named:
        for key, name in zip(group["params"], group["param_names"], strict=True):
            moment = state["state"].get(key, {}).get("exp_avg")
            fits = not isinstance(moment, torch.Tensor) or moment.shape == shapes.get(name)
            if name in shapes and not fits:
                raise GammaError(
                    f"the checkpoint's optimizer state for {name!r} has shape "
                    f"{tuple(moment.shape)}, the parameter {tuple(shapes[name])}: the groups were "
                    "not made by this version of the stock Trainer's rule. Delete optimizer.pt "
                    "and scheduler.pt in the checkpoint to continue with a fresh optimizer"
                )
