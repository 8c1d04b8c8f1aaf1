"""Fit the saved state of a learning-rate scheduler to other parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch.optim import Optimizer

from gamma_nlp.decay.joined import agreed, same
from gamma_nlp.errors import GammaError, listed

_PER_GROUP = ("base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "max_lrs")


def fit_scheduler_state(
    saved: Mapping[str, Any],
    optimizer: Optimizer,
    saved_names: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return a saved learning-rate scheduler state with one entry per group of ``optimizer``.

    Loaded as it is, the scheduler state of a run with two groups would never update the learning
    rate of a third.

    Args:
        saved: What ``scheduler.state_dict()`` returned.
        optimizer: The current optimizer.
        saved_names: Parameter names of each saved group, needed only if the saved groups had
            different learning rates.

    Raises:
        GammaError: The saved groups differ, and nothing says which applies where.
    """
    present = [group.get("param_names", []) for group in optimizer.param_groups]
    return spread_scheduler_state(saved, present, saved_names)


def spread_scheduler_state(
    saved: Mapping[str, Any],
    present: Sequence[Sequence[str]],
    saved_names: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Do as :func:`fit_scheduler_state` for groups of the names ``present``."""
    result = dict(saved)
    for key, values in saved.items():
        if key == "_schedulers":
            result[key] = [spread_scheduler_state(one, present, saved_names) for one in values]
        elif key in _PER_GROUP and isinstance(values, (list, tuple)):
            result[key] = deepcopy(_spread(key, list(values), present, saved_names))
    return result


def _spread(
    key: str,
    values: list[Any],
    present: Sequence[Sequence[str]],
    saved_names: Sequence[Sequence[str]] | None,
) -> list[Any]:
    if values and all(same(value, values[0]) for value in values):
        return [values[0]] * len(present)
    if saved_names is None or len(saved_names) != len(values):
        if len(values) == len(present):
            return values
        raise GammaError(
            f"the saved scheduler has {len(values)} groups with different {key}, the optimizer "
            f"has {len(present)} groups; pass saved_names, the parameter names of each saved group"
        )
    index = {name: i for i, names in enumerate(saved_names) for name in names}
    spread = []
    for names in present:
        if not names:
            spread.append(values[0])
            continue
        if missing := [name for name in names if name not in index]:
            raise GammaError(f"the saved scheduler's groups do not hold {listed(missing)}")
        spread.append(agreed({index[name]: values[index[name]] for name in names}, key, names))
    return spread
