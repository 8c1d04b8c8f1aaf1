"""What a policy needs of an engine: a step hook or none, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gamma_nlp.decay.schedule import LR

_CHANGES = {
    "deferred": "load the model in float32 (the engine makes 16-bit copies itself), or give the "
    "policy `rounding: keep`",
    "center": "give the policy `target: stored`",
    "all": "give the policy `mode: native`",
    "schedule": f"leave the policy's schedule out (its default is {LR.kind!r})",
}
"""What to change in a policy so that it needs no hook, for each reason."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why some parameters need the step hook.

    Attributes:
        what: What the hook does for them.
        count: How many they are.
        change: What would do without.
    """

    what: str
    count: int
    change: str

    def __str__(self) -> str:
        return f"{self.what} ({self.count} tensors)"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a policy and an optimizer need of an engine, on one model.

    Attributes:
        hook: Why the step hook is needed; empty if it is not.
        optimizer: The optimizer's class.
        dtypes: The dtypes of trained parameters.
        scalars: Names of parameters without a dimension.
        planned: Whether learning rates are known, which decide what is deferred.
        cut: Whether the model says how tensor parallel cuts it.
        deferred: Whether some decay is gathered, because rounding would cancel it.
    """

    hook: tuple[Reason, ...] = ()
    optimizer: str = "AdamW"
    dtypes: frozenset[torch.dtype] = frozenset()
    scalars: tuple[str, ...] = ()
    planned: bool = True
    cut: bool = True
    deferred: bool = False


def needs_of(
    groups: Sequence[Mapping[str, Any]],
    model: nn.Module,
    *,
    optimizer: type[torch.optim.Optimizer],
    native: str,
    planned: bool,
    cut: bool,
) -> Needs:
    """Return what parameter groups need.

    Args:
        groups: Of :func:`gamma_nlp.decay.groups.merged_groups`.
        model: Theirs.
        optimizer: Its class.
        native: The kind of decay that this class applies by itself.
        planned: Whether the groups were made for known learning rates.
        cut: Whether the model says how tensor parallel cuts it.
    """
    counts: dict[tuple[str, str], int] = {}
    for group in groups:
        for key in _keys(group, native):
            why = (key, _what(key, group, native))
            counts[why] = counts.get(why, 0) + len(group["params"])
    trained = [p for group in groups for p in group["params"]]
    return Needs(
        hook=tuple(
            Reason(what=what, count=count, change=_CHANGES[key])
            for (key, what), count in counts.items()
        ),
        optimizer=optimizer.__name__,
        dtypes=frozenset(p.dtype for p in trained),
        scalars=tuple(name for name, p in model.named_parameters() if not p.dim()),
        planned=planned,
        cut=cut,
        deferred=any(group.get("gamma_part") == "deferred" for group in groups),
    )


def _keys(group: Mapping[str, Any], native: str) -> list[str]:
    """Return all that needs a hook, so that one change does not bring up the next refusal."""
    if "gamma_part" not in group:
        return ["schedule"] if "gamma_schedule" in group else []
    other, moved = group["gamma_mode"] != native, bool(group["gamma_center"])
    keys = {"deferred": group["gamma_part"] == "deferred", "all": other, "center": moved}
    keys["schedule"] = "gamma_schedule" in group
    return [key for key, needed in keys.items() if needed]


def _what(key: str, group: Mapping[str, Any], native: str) -> str:
    if key == "schedule":
        return f"the schedule {group['gamma_schedule']!r}"
    if key == "deferred":
        return "decay that rounding would cancel, gathered"
    if key == "center":
        center = group["gamma_center"]
        return (
            "decay toward the first value"
            if center == "start"
            else (
                "decay of 1 + w toward gain 0"
                if center == -1
                else f"decay toward parameter {center:g}"
            )
        )
    return f"{group['gamma_mode']} decay, where the optimizer's own is {native}"
