"""The dose of every parameter of an optimizer, by the law that its class follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gamma_nlp.decay.dose import NOTHING, Dose, check_largest
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
from gamma_nlp.decay.momentum import TOO_LONG
from gamma_nlp.decay.precision import FLOATS
from gamma_nlp.decay.samples import sample
from gamma_nlp.decay.schedule import multipliers

NO_DTYPE = "rounding to a dtype of fewer than 16 bits is not known"


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
    check_largest(steps)
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
