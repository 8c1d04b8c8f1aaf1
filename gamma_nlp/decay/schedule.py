"""How a decay coefficient moves over a run: with the learning rate, or on a way of its own."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.errors import GammaError, close_to, shown

Kind = Literal["lr", "lr_squared", "constant", "cosine", "linear"]
RAMPS = ("cosine", "linear")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The multiplier of a decay coefficient at each step.

    A decoupled step takes lr * lambda * multiplier of a parameter, so the learning rate is in
    every one of them:

    Args:
        kind: ``lr``: 1, decay follows the learning rate, as in every stock optimizer.
            ``lr_squared``: lr over its peak, so decay follows the square (AdamC, Defazio 2025,
            arXiv:2506.02285). ``constant``: the peak over lr, so every step with a learning rate
            above 0 takes the same share. ``cosine`` and ``linear``: from 1 at the first step to
            ``end`` at the last.
        end: Where a ramp ends; above 1 it rises.
        steps: Optimizer steps of a ramp; ``None`` for those of the run, where they are known.

    Raises:
        GammaError: An unknown kind, a number out of range, options of a ramp without one.
    """

    kind: Kind = "lr"
    end: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        if not isinstance(self.kind, str) or self.kind not in kinds:
            hint = f"{close_to(str(self.kind), kinds)} (valid: {', '.join(kinds)})"
            raise GammaError(f"unknown schedule {shown(self.kind)}{hint}")
        if isinstance(self.end, bool) or not isinstance(self.end, (int, float)):
            raise GammaError(f"end must be a number >= 0, got {shown(self.end)}")
        if not 0 <= self.end <= sys.float_info.max:
            raise GammaError(f"end must be finite and >= 0, got {shown(self.end)}")
        whole = isinstance(self.steps, int) and not isinstance(self.steps, bool)
        if self.steps is not None and not (whole and self.steps > 0):
            raise GammaError(f"steps must be a whole number > 0, got {shown(self.steps)}")
        if self.kind not in RAMPS and (self.end or self.steps):
            raise GammaError(_no_ramp(self.kind))

    @classmethod
    def read(cls, source: ScheduleLike, where: str = "schedule") -> Schedule:
        """Return the schedule that ``source`` names: a kind, a mapping of fields, or itself.

        Args:
            source: Such as ``"lr_squared"`` or ``{"kind": "cosine", "end": 0.1}``.
            where: What it is the value of, for errors.

        Raises:
            GammaError: It is none of these.
        """
        if isinstance(source, Schedule):
            return source
        try:
            if isinstance(source, str):
                return cls(kind=source)
            if isinstance(source, Mapping):
                return cls(**_fields(source))
        except GammaError as error:
            raise GammaError(f"{where}: {error}") from None
        raise GammaError(
            f"{where}: write a word such as lr_squared, or a mapping such as "
            f"{{kind: cosine, end: 0}}, not {shown(source)}"
        )


ScheduleLike = Schedule | Kind | Mapping[str, Any]
"""A schedule, its kind, or a mapping of its fields."""


def _fields(source: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping that names the kind and nothing that its kind ignores."""
    valid = tuple(Schedule.__dataclass_fields__)
    for key in source:
        if key not in valid:
            hint = f"{close_to(str(key), valid)} (valid: {', '.join(valid)})"
            raise GammaError(f"unknown key {shown(key)}{hint}")
    if "kind" not in source:
        raise GammaError(f"the kind is missing, one of {', '.join(get_args(Kind))}")
    if source["kind"] in get_args(Kind) and source["kind"] not in RAMPS and len(source) > 1:
        raise GammaError(_no_ramp(source["kind"]))
    return dict(source)


def _no_ramp(kind: str) -> str:
    return f"{kind!r} takes no end and no steps; {' and '.join(RAMPS)} do"


LR = Schedule()
"""Decay follows the learning rate."""


def multiplier(
    kind: str, lr: float | Tensor, *, peak: float, end: float, step: int, steps: int
) -> float | Tensor:
    """Return the multiplier of a coefficient at one step; a tensor where ``lr`` is one.

    Args:
        kind: As in :class:`Schedule`.
        lr: The learning rate of this step.
        peak: The largest learning rate of the run.
        end: Where a ramp ends.
        step: How many steps were made before this one.
        steps: How many the ramp has.
    """
    if kind == "lr_squared":
        return lr / peak if peak else 0.0
    if kind == "constant":
        if isinstance(lr, Tensor):
            return (peak / lr).nan_to_num(posinf=0.0)
        return peak / lr if lr else 0.0
    if kind not in RAMPS:
        return 1.0
    done = min(step / max(steps - 1, 1), 1.0)
    left = (1 + math.cos(math.pi * done)) / 2 if kind == "cosine" else 1 - done
    return end + (1 - end) * left


def set_scheduled(optimizer: Optimizer, keep: Tensor | None = None) -> None:
    """Give each group with a schedule its coefficient of this step, and count the step."""
    for group in optimizer.param_groups:
        kind = group.get("gamma_schedule")
        if kind is None or not group["params"]:  # ZeRO-3 steps one group, and empties the others
            continue
        step = group.get("gamma_step", 0)
        factor = multiplier(
            kind,
            group["lr"],
            peak=group.get("max_lr", group["gamma_peak"]),
            end=group["gamma_end"],
            step=step,
            steps=group["gamma_steps"],
        )
        own = group.get("gamma_part", "center") == "center"  # the optimizer wants a number
        group["weight_decay"] = group["gamma_base"] * (float(factor) if own else factor)
        if kind in RAMPS and (keep is None or bool(keep)):
            group["gamma_step"] = step + 1


def multipliers(kind: str, lrs: Tensor, *, peak: float, end: float, steps: int) -> Tensor:
    """Return :func:`multiplier` of every step of a run with the learning rates ``lrs``.

    Args:
        kind: As in :class:`Schedule`.
        lrs: Of each step.
        peak: The largest learning rate of the run.
        end: Where a ramp ends.
        steps: How many steps the ramp has.
    """
    if kind in ("lr_squared", "constant"):
        return torch.as_tensor(multiplier(kind, lrs, peak=peak, end=end, step=0, steps=steps))
    if kind not in RAMPS:
        return torch.ones_like(lrs)
    done = torch.arange(len(lrs), dtype=lrs.dtype) / max(steps - 1, 1)
    done = done.clamp(max=1.0)
    left = (1 + (math.pi * done).cos()) / 2 if kind == "cosine" else 1 - done
    return end + (1 - end) * left
