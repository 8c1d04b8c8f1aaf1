"""The keys by which a parameter group says how it decays; :mod:`.step_hook` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.decay import deferred
from gamma_nlp.decay.assign import Decay
from gamma_nlp.decay.policies.keys import Native
from gamma_nlp.decay.schedule import LR, RAMPS
from gamma_nlp.errors import GammaError

_HOOK = ("gamma_part", "gamma_mode", "gamma_center", "gamma_share", "gamma_last")
_SCHEDULE = ("gamma_schedule", "gamma_peak", "gamma_end", "gamma_steps")
_FORMER = ("gamma_decay", "gamma_offset")  # in states of when the hook had a coefficient of its own

DECAY_KEYS = ("weight_decay", *_HOOK, "gamma_base", *_SCHEDULE, *_FORMER)
"""What the current optimizer decides; a saved state never changes it."""

PROGRESS_KEYS = (*deferred.PROGRESS, "gamma_step")
"""How far deferred decay and schedules have come; a saved state brings it."""

OWN_KEYS = frozenset({"params", "param_names", *DECAY_KEYS, *PROGRESS_KEYS})
"""What is no setting of the optimizer, such as its betas."""


def decay_keys(
    name: str, decay: Decay, *, native: Native, peak: float, steps: int | None
) -> dict[str, Any]:
    """Return the keys of a group: the coefficient, and what the step hook reads.

    Args:
        name: A parameter of the group, for errors.
        decay: What the group decays by.
        native: The optimizer's own kind.
        peak: The largest learning rate of the run, for schedules.
        steps: Optimizer steps of the run, if they are known.

    Raises:
        GammaError: A ramp without steps, or a constant schedule in the gradient.
    """
    keys: dict[str, Any] = {"weight_decay": decay.coefficient}
    if decay.coefficient == 0:
        return keys
    mode = decay.mode_in(native)
    part = "deferred" if decay.share else "center" if mode == native else "all"
    if part != "center" or decay.center:
        keys |= {"gamma_part": part, "gamma_mode": mode, "gamma_center": decay.center}
    if decay.share:
        keys |= {"gamma_share": decay.share, "gamma_last": steps or 0}
    schedule = decay.schedule
    if schedule == LR:
        return keys
    if schedule.kind == "constant" and mode == "coupled":
        raise GammaError(
            f"{name}: a constant schedule divides by the learning rate, and inside the gradient "
            "that would pass through the optimizer's momentum; use mode 'decoupled'"
        )
    ramp = schedule.kind in RAMPS
    length = (schedule.steps or steps) if ramp else steps
    if ramp and not length:
        raise GammaError(
            f"{name}: schedule {schedule.kind!r} needs the number of optimizer steps; write "
            f"{{kind: {schedule.kind}, steps: ...}} in the policy, or pass rates= to make_optimizer"
        )
    keys |= {"gamma_schedule": schedule.kind, "gamma_base": decay.coefficient}
    keys |= {"gamma_peak": peak, "gamma_end": float(schedule.end), "gamma_steps": length or 0}
    return keys


def needs_hook(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the optimizer needs the step hook for these groups."""
    return any("gamma_part" in group or "gamma_schedule" in group for group in groups)


def as_told(group: Mapping[str, Any], native: str) -> tuple[Any, ...]:
    """Return what a policy says about the decay of a group."""
    return (
        float(group.get("gamma_base", group.get("weight_decay", 0.0))),
        group.get("gamma_mode", native),
        group.get("gamma_center", 0.0),
        *(group.get(key) for key in _SCHEDULE),
    )


def still_deferred(
    group: Mapping[str, Any], saved: Sequence[Mapping[str, Any]], native: str
) -> dict[str, Any]:
    """Return the keys with which a group goes on deferring its decay, if it did so when saved.

    Whether rounding cancels decay depends on the values, which have moved since. A resumed run
    goes on as it was, where all else about the decay is the same.

    Args:
        group: A present group.
        saved: The saved group of each of its parameters.
        native: The optimizer's own kind of decay.
    """
    found = [{key: old.get(key) for key in _HOOK} for old in saved]
    if not found or found[0]["gamma_part"] != "deferred" or any(one != found[0] for one in found):
        return {}
    if "gamma_share" in group or not all(
        as_told(old, native) == as_told(group, native) for old in saved
    ):
        return {}
    return found[0]
