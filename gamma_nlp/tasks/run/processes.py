"""The processes of one run decide together: the main one looks, all of them do as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gamma_nlp.errors import GammaError

T = TypeVar("T")


def together() -> bool:
    """Return whether this run has other processes to talk to."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def decided(decide: Callable[[], T], *, main_process: bool) -> T:
    """Return what the main process decides, in every process.

    Machines need not share a disk, so what others would find there may be something else.

    Args:
        decide: Called in the main process only, if there are several.
        main_process: Whether this is the main one.

    Raises:
        GammaError: ``decide`` raised it; all processes do.
    """
    if not together():
        return decide()
    box: list[Any] = [None]
    if main_process:
        try:
            box = [(True, decide())]
        except GammaError as error:
            box = [(False, str(error))]
        except OSError as error:  # else the others wait for it
            box = [(False, f"{error.filename}: {error.strerror}")]
    dist.broadcast_object_list(box, src=0)
    done, value = box[0]
    if not done:
        raise GammaError(value)
    result: T = value
    return result


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is set in any process; all of them have to ask."""
    if not together():
        return flag
    found = torch.tensor(int(flag), device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def all_or_none(problem: str | None) -> None:
    """Raise in every process what is wrong in any of them.

    Args:
        problem: Of this process.

    Raises:
        GammaError: Of the first process that has one.
    """
    problems: list[str | None] = [problem]
    if together():
        problems = [None] * dist.get_world_size()
        dist.all_gather_object(problems, problem)
    found = [one for one in problems if one is not None]
    if found:
        raise GammaError(found[0])
