"""The dose: how far decay alone would pull a gain over a planned run.

Most published coefficients pull gains by a tenth of a per cent, and half precision can round that
to nothing. Know the doses before you compare policies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.decay.groups import Decay
from gamma_nlp.decay.known_optimizers import (
    coefficient_of,
    factor_of,
    mode_of,
    momentum_of,
    scalar_of,
    stands_still,
    unknown_law,
)
from gamma_nlp.decay.laws import Law, Steps, pulls
from gamma_nlp.decay.momentum import TOO_LONG, Momentum
from gamma_nlp.decay.policy import Native, Rounding, Target
from gamma_nlp.decay.precision import FLOATS
from gamma_nlp.decay.rounding import deferred_share
from gamma_nlp.decay.samples import sample
from gamma_nlp.decay.schedule import multipliers
from gamma_nlp.errors import GammaError, shown


def decay_dose(
    coefficient: float,
    lrs: float | Iterable[float],
    *,
    dtype: torch.dtype = torch.float32,
    mode: Native = "decoupled",
    adaptive: bool = True,
    momentum: float = 0.0,
    start: float | Tensor = 1.0,
    offset: float = 0.0,
    target: Target = "zero",
    rounding: Rounding = "keep",
) -> float | None:
    """Return the fraction of a gain that decay removes over a run if its gradient stays zero.

    Decoupled decay leaves the factor prod(1 - lr_t * coefficient), which is close to
    exp(-coefficient * sum(lr_t)); the dose is 1 minus that. L2 in the gradient of plain SGD gives
    the same, with momentum m at learning rates divided by 1 - m. Inside an optimizer that divides
    by the size of the gradient (Adam) L2 has no closed form.

    Args:
        coefficient: The decay coefficient of the gain: ``weight_decay`` times its multiplier.
        lrs: The learning rate of every step; or their sum as one number, for the closed form
            without rounding and without the start of momentum.
        dtype: The gain's dtype. The parameter is rounded to it after every step, as in training:
            steps below half a unit in the last place are lost.
        mode: ``decoupled`` or ``coupled``.
        adaptive: For coupled decay: True for optimizers of Adam's kind, False for SGD.
        momentum: SGD's momentum, for coupled decay.
        start: The gain at the start, or a tensor of gains.
        offset: 1 where the gain is 1 + parameter, else 0. Only rounding depends on it.
        target: What the gain decays toward; the dose is the part of the distance to it. For
            ``start``, where that is 0 at first, it is the part of a displacement.
        rounding: ``keep`` every step as it is rounded, or ``defer`` decay as ``make_optimizer``
            does, where rounding would take more than 2 % of the dose.

    Returns:
        The dose, 0.1 for a pull of 10 %; ``None`` where there is no closed form.

    Raises:
        GammaError: A number out of range, a step that would decay more than the whole gain, a
            dtype other than float16, bfloat16, float32 and float64, or momentum with decoupled
            decay.

    Example:
        The sum of the learning rates is enough in float32:

        >>> import torch
        >>> from gamma_nlp import DecayPolicy, decay_dose
        >>> round(decay_dose(0.01, 11.1), 3)
        0.105

        With your own schedule and dtype: bfloat16 rounds every one of these steps away, float32
        keeps them, and deferred they act in bfloat16 too, a few units in the last place at a time:

        >>> lrs = [1e-5 * (1 - step / 6000) for step in range(6000)]
        >>> decay_dose(3.4, lrs, dtype=torch.bfloat16)
        0.0
        >>> round(decay_dose(3.4, lrs), 3)
        0.097
        >>> round(decay_dose(3.4, lrs, dtype=torch.bfloat16, rounding="defer"), 3)
        0.094

        A policy multiplies the coefficient; here L2 in the gradient of SGD:

        >>> policy = DecayPolicy(branch_inner=0.5, mode="coupled")
        >>> coefficient = 1e-3 * policy.branch_inner
        >>> round(decay_dose(coefficient, 20.0, mode=policy.mode, adaptive=False, momentum=0.9), 3)
        0.095
    """
    total = isinstance(lrs, (int, float))
    try:
        steps = [float(lrs)] if total else [float(lr) for lr in lrs]  # type: ignore[arg-type,union-attr]
    except (TypeError, ValueError) as error:
        raise GammaError(
            f"lrs must be a learning rate for every step, or their sum, got {shown(lrs)}"
        ) from error
    gains = _gains(start)
    _check(coefficient, steps, momentum, mode)
    for name, word, valid in (("target", target, Target), ("rounding", rounding, Rounding)):
        if word not in get_args(valid):
            raise GammaError(f"{name} must be one of {', '.join(get_args(valid))}, got {word!r}")
    if dtype not in FLOATS:
        raise GammaError(f"no dose for dtype {dtype}; use one of {', '.join(map(str, FLOATS))}")
    if coefficient == 0:
        return 0.0
    if mode == "coupled" and adaptive:
        return None
    if total:
        return -math.expm1(-coefficient * steps[0] / (1 - momentum))
    decay = Decay(
        coefficient=coefficient,
        center="start" if target == "start" else float(target == "one") - offset,
        mode=mode,
        rounding=rounding,
    )
    values = (gains - offset).to(dtype)
    rates = torch.tensor(steps, dtype=torch.float64)
    through = Momentum(values=momentum)
    return planned_dose(values, decay, rates, native=mode, momentum=through)[0].told


@dataclass(frozen=True, kw_only=True)
class Dose:
    """What decay does to one parameter in a planned run.

    Attributes:
        told: The dose; ``None`` where it is unknown.
        exact: What it were without rounding.
        why: Why it is unknown.
    """

    told: float | None
    exact: float | None
    why: str | None = None


NOTHING = Dose(told=0.0, exact=0.0)


def planned_dose(
    values: Tensor,
    decay: Decay,
    lrs: Tensor,
    *,
    native: Native = "decoupled",
    momentum: Momentum | None = None,
) -> tuple[Dose, bool]:
    """Return the dose of a parameter that an optimizer will decay so, and whether it is deferred.

    Args:
        values: Of the parameter, in its dtype.
        decay: What it will be given.
        lrs: The learning rate of every step, in float64.
        native: The optimizer's own kind.
        momentum: Of an optimizer that is not adaptive, for coupled decay; ``None`` for others.
    """
    mode = native if decay.mode == "native" else decay.mode
    if not decay.coefficient:
        return NOTHING, False
    if mode == "coupled" and momentum is None:
        return Dose(told=None, exact=None, why="adaptive"), False
    hooked = mode != native
    schedule, share = decay.schedule, 0.0
    factors = multipliers(
        schedule.kind,
        lrs,
        peak=float(lrs.max()) if len(lrs) else 0.0,
        end=schedule.end,
        steps=schedule.steps or len(lrs),
    )
    steps = Steps(lrs=lrs, coefficients=decay.coefficient * factors)
    _check_largest(steps)
    if mode == "decoupled" and decay.rounding == "defer" and len(lrs):
        share = deferred_share(values, decay, lrs, hooked=hooked)
    law = Law(
        dtype=values.dtype,
        mode=mode,
        center=decay.center,
        hooked=hooked,
        share=share,
        last=len(lrs),
        momentum=momentum or Momentum(),
    )
    own = [sample(values)]
    (told,), (exact,) = pulls(own, law, steps), pulls(own, law, steps, exactly=True)
    return Dose(told=told, exact=exact, why=TOO_LONG if told is None else None), share > 0


def group_doses(
    optimizer: Optimizer,
    group: Mapping[str, Any],
    lrs: Sequence[float] | Tensor,
    momenta: Sequence[float] | None = None,
) -> dict[str, Dose]:
    """Return the dose of every parameter of one group, by name.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`.
        group: One of its groups.
        lrs: The planned learning rate of every step.
        momenta: The momentum of every step, where a scheduler changes it.

    Raises:
        GammaError: A step would decay by more than the whole parameter.
    """
    names, parameters = group["param_names"], group["params"]
    why = unknown_law(optimizer, group)
    if why:
        return dict.fromkeys(names, Dose(told=None, exact=None, why=why))
    if not coefficient_of(group):
        return dict.fromkeys(names, NOTHING)
    steps = _steps(group, torch.as_tensor(lrs, dtype=torch.float64))
    _check_largest(steps)
    doses = dict.fromkeys(names, Dose(told=None, exact=None, why=NO_DTYPE))
    alike: dict[tuple[torch.dtype, str], list[int]] = {}
    for number, p in enumerate(parameters):
        if p.dtype in FLOATS:
            alike.setdefault((p.dtype, p.device.type), []).append(number)
    for numbers in alike.values():
        if still := stands_still(optimizer, group, parameters[numbers[0]]):
            unmoved = Dose(told=None, exact=None, why=still)
            doses |= dict.fromkeys([names[number] for number in numbers], unmoved)
            continue
        law = law_of(optimizer, group, parameters[numbers[0]], momenta)
        samples = [sample(parameters[number]) for number in numbers]
        told = pulls(samples, law, steps)
        exact = pulls(samples, law, steps, exactly=True)
        for number, one, whole in zip(numbers, told, exact, strict=True):
            missing = TOO_LONG if one is None else None
            doses[names[number]] = Dose(told=one, exact=whole, why=missing)
    return doses


NO_DTYPE = "rounding to a dtype of fewer than 16 bits is not known"


def law_of(
    optimizer: Optimizer,
    group: Mapping[str, Any],
    parameter: Tensor,
    momenta: Sequence[float] | None = None,
) -> Law:
    """Return the law by which a parameter of a known optimizer decays."""
    part = group.get("gamma_part", "center")
    momentum = momentum_of(optimizer, group, parameter)
    if momenta is not None and momentum.any:
        momentum = dataclasses.replace(momentum, values=momenta)
    return Law(
        dtype=parameter.dtype,
        mode=mode_of(optimizer, group),
        center=group.get("gamma_center", 0.0),
        hooked=part != "center",
        factor=factor_of(optimizer, group, parameter),
        scalar=scalar_of(parameter),
        share=group.get("gamma_share", 0.0) if part == "deferred" else 0.0,
        last=group.get("gamma_last", 0),
        momentum=momentum,
    )


def optimizer_doses(optimizer: Optimizer, lrs: Sequence[float]) -> dict[str, float | None]:
    """Return the dose of every parameter of an optimizer from this package, by name.

    ``None`` where the decay follows a law that is not known, or that has no closed form:
    :func:`~gamma_nlp.decay.known_optimizers.unknown_law` says which.

    Args:
        optimizer: From :func:`gamma_nlp.make_optimizer`.
        lrs: The planned learning rate of every step, the same for all groups.
    """
    rates = torch.as_tensor(lrs, dtype=torch.float64)
    return {
        name: dose.told
        for group in optimizer.param_groups
        for name, dose in group_doses(optimizer, group, rates).items()
    }


def _steps(group: Mapping[str, Any], lrs: Tensor) -> Steps:
    kind = group.get("gamma_schedule", "lr")
    factors = multipliers(
        kind,
        lrs,
        peak=group.get("max_lr", group.get("gamma_peak", 0.0)),
        end=group.get("gamma_end", 0.0),
        steps=group.get("gamma_steps", 0),
    )
    return Steps(lrs=lrs, coefficients=coefficient_of(group) * factors)


def _check_largest(steps: Steps) -> None:
    most = float(steps.shares.max()) if len(steps.lrs) else 0.0
    if most > 1:
        raise GammaError(
            f"lr * coefficient reaches {most:g}: one step would decay by more "
            "than the whole gain; lower the coefficient or the learning rate"
        )


def _gains(start: float | Tensor) -> Tensor:
    if not isinstance(start, (int, float, Tensor)):
        raise GammaError(f"start must be a number or a tensor, got {shown(start)}")
    gains = torch.as_tensor(start, dtype=torch.float64).detach().cpu().flatten()
    if not len(gains) or not bool(gains.isfinite().all()) or not bool(gains.any()):
        raise GammaError(f"start must be finite and not 0, got {shown(start)}")
    return gains


def _check(coefficient: float, lrs: Sequence[float], momentum: float, mode: str) -> None:
    if mode not in ("decoupled", "coupled"):
        raise GammaError(f"mode must be 'decoupled' or 'coupled', got {mode!r}")
    for name, value in (("coefficient", coefficient), ("momentum", momentum)):
        if not isinstance(value, (int, float)):
            raise GammaError(f"{name} must be a number, got {shown(value)}")
    if not math.isfinite(coefficient) or coefficient < 0:
        raise GammaError(f"coefficient must be finite and >= 0, got {coefficient!r}")
    if bad := [lr for lr in lrs if not math.isfinite(lr) or lr < 0]:
        raise GammaError(f"learning rates must be finite and >= 0, got {bad[0]!r}")
    if not 0 <= momentum < 1:
        raise GammaError(f"momentum must be at least 0 and below 1, got {momentum!r}")
    if momentum and mode == "decoupled":
        raise GammaError(
            "decoupled decay does not pass through the momentum; leave momentum out, or pass "
            "mode='coupled', adaptive=False for L2 in SGD"
        )
