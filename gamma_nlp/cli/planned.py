"""The run that a command plans: its policy, its learning rates, and the doses that follow."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gamma_nlp.cli.common import note
from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from torch import nn

    from gamma_nlp.decay.assign import Decay
    from gamma_nlp.decay.policies.keys import Native
    from gamma_nlp.decay.policy import DecayPolicy
    from gamma_nlp.gains.table import Action, GainTable

LINEAR = "linear"
MOST_STEPS = 10_000_000
SCHEDULES = (
    LINEAR, "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant",
    "constant_with_warmup",
)  # fmt: skip
"""The schedules of transformers that follow from lr, steps and warm-up alone."""


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the policy and its weight decay."""
    parser.add_argument(
        "--policy", default="guidelines", help="preset, such as iwd or timm, or file (%(default)s)"
    )
    parser.add_argument("--weight-decay", metavar="D", type=float, default=0.01, help="(0.01)")


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a run is planned with."""
    plan = parser.add_argument_group("planned run, for the dose: how far decay alone pulls a gain")
    plan.add_argument("--lr", type=float, help="peak learning rate")
    plan.add_argument("--steps", metavar="N", type=int, help="optimizer steps")
    plan.add_argument("--warmup", metavar="N", type=int, help="warm-up steps (0)")
    plan.add_argument("--schedule", choices=SCHEDULES, help="as transformers names it (linear)")


def chosen_policy(arguments: argparse.Namespace) -> DecayPolicy:
    """Return the policy that was named.

    Raises:
        GammaError: There is none, or the weight decay is no number that can be used.
    """
    from gamma_nlp.decay.policy import DecayPolicy

    if not 0 <= arguments.weight_decay < math.inf:
        raise GammaError(f"--weight-decay must be a number >= 0, not {arguments.weight_decay}")
    return DecayPolicy.load(arguments.policy)


def settings_for(
    arguments: argparse.Namespace, model: nn.Module, policy: DecayPolicy, table: GainTable
) -> dict[str, Decay]:
    """Return how each parameter decays, and note what the policy does not reach."""
    from gamma_nlp.decay import assign, effect

    try:
        settings = assign.decays_for(
            model, weight_decay=arguments.weight_decay, policy=policy, table=table
        )
    except GammaError as error:  # name the option as it is typed
        raise GammaError(str(error).replace("weight_decay", "--weight-decay")) from error
    spared = assign.spared_in(policy, table, model)
    for sentence in effect.without_effect(policy, table, assign.trained_in(table, model), spared):
        note(sentence)
    return settings


def learning_rates(arguments: argparse.Namespace) -> list[float] | None:
    """Return the learning rate of every step of the planned run; None without a plan.

    Raises:
        GammaError: The plan is incomplete or makes no sense.
    """
    lr, steps = arguments.lr, arguments.steps
    if lr is None and steps is None:
        for name in ("warmup", "schedule"):
            if getattr(arguments, name) is not None:
                raise GammaError(f"--{name} goes with --lr and --steps, which plan a run")
        return None
    warmup, schedule = arguments.warmup or 0, arguments.schedule or LINEAR
    if lr is None or steps is None:
        missing = "--lr" if lr is None else "--steps"
        raise GammaError(f"a dose needs --lr and --steps: {missing} is missing")
    if not (math.isfinite(lr) and lr > 0):
        raise GammaError(f"--lr must be a number above 0, not {lr}")
    if not 0 <= warmup <= steps or steps < 1:
        raise GammaError(
            "--steps must be at least 1 and --warmup between 0 and --steps, "
            f"not {steps} and {warmup}"
        )
    if steps > MOST_STEPS:
        raise GammaError(f"--steps must be at most {MOST_STEPS:,}, not {steps}: each is followed")
    if schedule == "constant" and warmup:
        raise GammaError(
            "--schedule constant ignores --warmup, as in transformers; "
            "give --schedule constant_with_warmup"
        )
    from gamma_nlp.hf.schedule import rates_of_schedule

    try:
        return rates_of_schedule(schedule, lr, steps=steps, warmup=warmup)
    except GammaError as error:
        raise GammaError(f"--schedule {error}".replace(" with lr ", " --lr ")) from error


def told(arguments: argparse.Namespace) -> str:
    """Return what a dose of the planned run is."""
    return (
        f"pull of decay alone over {arguments.steps} steps of AdamW, from a gain of 1; "
        f"peak lr {arguments.lr:g}, {arguments.schedule or LINEAR} schedule, "
        f"{arguments.warmup or 0} warm-up steps"
    )


def doses(
    table: GainTable,
    settings: dict[str, Decay],
    rates: Sequence[float],
    *,
    native: Native = "decoupled",
    momentum: float | None = None,
    dtype: str | None = None,
) -> tuple[dict[str, float | None], dict[str, Action]]:
    """Return dose and kind of decay of each gain; gains that are treated alike are computed once.

    Every gain is taken to start at 1: no weights are loaded.

    Args:
        table: The gains.
        settings: The decay of each.
        rates: The learning rate of every step.
        native: The optimizer's own kind of decay; AdamW's without it.
        momentum: Of an optimizer that is not adaptive, for coupled decay.
        dtype: What the optimizer works on, where that is not the dtype of the gains.
    """
    import torch

    from gamma_nlp.decay.dose import Dose, planned_dose
    from gamma_nlp.decay.momentum import Momentum
    from gamma_nlp.decay.plan import target_of
    from gamma_nlp.gains.table import Action

    known: dict[tuple[Any, ...], Dose] = {}
    pulls: dict[str, float | None] = {}
    actions: dict[str, Action] = {}
    lrs = torch.tensor(rates, dtype=torch.float64)
    through = None if momentum is None else Momentum(values=momentum)
    for gain in table:
        decay = settings[gain.name]
        key = (decay, dtype or gain.dtype, gain.offset)
        if key not in known:
            value = torch.tensor([1.0 - gain.offset], dtype=getattr(torch, dtype or gain.dtype))
            known[key] = planned_dose(value, decay, lrs, native=native, momentum=through)
        dose = known[key]
        pulls[gain.name] = dose.told
        if decay.coefficient:
            actions[gain.name] = Action(
                target=target_of(decay.center, gain.offset),
                deferred=dose.deferred,
                coupled=decay.mode_in(native) == "coupled",
                exact=dose.exact,
            )
    return pulls, actions
