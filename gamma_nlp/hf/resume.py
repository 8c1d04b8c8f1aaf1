"""Resume a Trainer run under other parameter groups: states follow the parameters' names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from gamma_nlp.decay.group_keys import DECAY_KEYS
from gamma_nlp.decay.scheduler_state import fit_scheduler_state, spread_scheduler_state
from gamma_nlp.decay.stock_layout import in_layout, in_own_layout
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

    with (
        _replaced(optimizer, "load_state_dict", load_optimizer),
        _replaced(scheduler, "load_state_dict", load_scheduler),
    ):
        yield


@contextmanager
def stock_saving(
    optimizer: Any, scheduler: Any, stock: Sequence[Mapping[str, Any]]
) -> Iterator[None]:
    """Within the block, return states that the stock Trainer can load, and this one too.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`, wrapped by accelerate or not.
        scheduler: The learning-rate scheduler of the run.
        stock: ``param_names`` and ``weight_decay`` of each of the stock Trainer's groups.
    """
    bare = unwrap_optimizer(optimizer)
    names = [group["param_names"] for group in stock]
    decays = [group["weight_decay"] for group in stock]

    own = [group["param_names"] for group in bare.param_groups]
    try:
        state = in_layout(optimizer.state_dict(), names, decays)
        rates = spread_scheduler_state(scheduler.state_dict(), names, own)
    except GammaError as error:
        logger.warning(
            "the stock Trainer cannot load the optimizer's state in this checkpoint: %s. To go "
            "back to it, delete optimizer.pt and scheduler.pt there",
            error,
        )
        yield
        return
    with (
        _replaced(optimizer, "state_dict", lambda save: state),
        _replaced(scheduler, "state_dict", lambda save: rates),
    ):
        yield


def earlier_groups(checkpoint: str | None) -> dict[str, dict[str, Any]]:
    """Return the group of each parameter in a checkpoint; empty where it does not say."""
    path = Path(checkpoint or "") / "optimizer.pt"
    if checkpoint is None or not path.is_file():
        return {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # the Trainer says what is wrong with it when it loads it
        return {}
    groups = in_own_layout(saved)["param_groups"]
    return {name: group for group in groups for name in group.get("param_names", ())}


def check_partitions(checkpoint: str, processes: int) -> None:
    """Check that a DeepSpeed checkpoint has as many parts as a run has processes.

    Raises:
        GammaError: It has more or fewer.
    """
    parts = {
        found[1]
        for path in Path(checkpoint).glob("global_step*/*zero_pp_rank_*_optim_states.pt")
        if (found := re.search(r"zero_pp_rank_(\d+)_", path.name))
    }
    if parts and len(parts) != processes:
        raise GammaError(
            f"{checkpoint} was saved by {len(parts)} processes under DeepSpeed ZeRO, and this run "
            f"has {processes}. The number of processes, the stage and the policy's groups must be "
            f"those of the saved run; the decay of a group may change. Start {len(parts)} "
            "processes, or convert the checkpoint with DeepSpeed's ds_to_universal"
        )


@contextmanager
def _replaced(target: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    own = vars(target).get(name)
    method = getattr(target, name)
    setattr(target, name, lambda *args: replacement(method, *args))
    try:
        yield
    finally:
        if own is None:
            delattr(target, name)
        else:
            setattr(target, name, own)


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
    state = in_own_layout(state)
    groups = state["param_groups"]
    if all("param_names" in group for group in groups):
        return state
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
