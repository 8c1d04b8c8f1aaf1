"""Whether a step of an optimizer goes on inside another one, by ``super().step()``."""

from __future__ import annotations

import inspect
import weakref

from torch.optim import Optimizer


def inside_a_step(optimizer: Optimizer) -> bool:
    """Return whether this step is part of another one; torch runs the hooks in each of them.

    No counter of ours can tell, since a step that fails runs no post hook.
    """
    if type(optimizer) in _handing_on_nothing:
        return False
    steps = {inspect.unwrap(vars(kind)["step"]) for kind in _written(type(optimizer))}
    if len(steps) <= 2:  # its own and Optimizer's: there is nothing to hand on to
        _handing_on_nothing.add(type(optimizer))
        return False
    found, frame = 0, inspect.currentframe()
    while frame is not None:
        wrapper = frame.f_code.co_filename == _HOOKS_IN and frame.f_code.co_name == "wrapper"
        found += wrapper and frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return found > 1


_handing_on_nothing: weakref.WeakSet[type] = weakref.WeakSet()
"""Kinds that were looked at; every step asks."""


def _written(kind: type) -> list[type]:
    return [one for one in kind.__mro__ if "step" in vars(one)]


_HOOKS_IN = Optimizer.profile_hook_step.__code__.co_filename
