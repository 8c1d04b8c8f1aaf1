"""``gamma-nlp table``: every gain of a model, its category, and what decay will do to it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gamma_nlp.cli.common import (
    add_command,
    add_model_arguments,
    load_table,
    need_transformers,
    note,
    print_json,
)
from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from gamma_nlp.decay.assign import Decay
    from gamma_nlp.gains.table import Action, GainTable

LINEAR = "linear"
MOST_STEPS = 10_000_000
SCHEDULES = (
    LINEAR, "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant",
    "constant_with_warmup",
)  # fmt: skip
"""The schedules of transformers that follow from lr, steps and warm-up alone."""

EXAMPLES = """\
  gamma-nlp table bert-base-uncased
  gamma-nlp table MODEL --policy all --weight-decay 0.1 --lr 3e-4 --steps 10000 --warmup 500
  gamma-nlp table path/to/config.json --full --json"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "table", run=run, examples=EXAMPLES)
    add_model_arguments(parser)
    parser.add_argument(
        "--policy", default="guidelines", help="preset, such as iwd or timm, or file (%(default)s)"
    )
    parser.add_argument("--weight-decay", metavar="D", type=float, default=0.01, help="(0.01)")
    parser.add_argument("--full", action="store_true", help="one row per gain")
    plan = parser.add_argument_group("planned run, for the dose: how far decay alone pulls a gain")
    plan.add_argument("--lr", type=float, help="peak learning rate")
    plan.add_argument("--steps", metavar="N", type=int, help="optimizer steps")
    plan.add_argument("--warmup", metavar="N", type=int, help="warm-up steps (0)")
    plan.add_argument("--schedule", choices=SCHEDULES, help="as transformers names it (linear)")


def run(arguments: argparse.Namespace) -> int:
    """Print the gain table under a policy, with doses where a run is planned."""
    need_transformers("table")
    from gamma_nlp.decay import assign, effect, policy
    from gamma_nlp.gains.table import gain_table, gain_table_json

    if not 0 <= arguments.weight_decay < math.inf:
        raise GammaError(f"--weight-decay must be a number >= 0, not {arguments.weight_decay}")
    chosen = policy.DecayPolicy.load(arguments.policy)
    rates = learning_rates(arguments)
    model, table = load_table(arguments)
    table = assign.table_for(model, None, table, chosen)
    try:
        settings = assign.decays_for(
            model, weight_decay=arguments.weight_decay, policy=chosen, table=table
        )
    except GammaError as error:  # name the option as it is typed
        raise GammaError(str(error).replace("weight_decay", "--weight-decay")) from error
    spared = assign.spared_in(chosen, table, model)
    for sentence in effect.without_effect(chosen, table, assign.trained_in(table, model), spared):
        note(sentence)
    coefficients = {gain.name: settings[gain.name].coefficient for gain in table}
    doses, actions = None, None
    if rates is not None:
        doses, actions = _planned(table, settings, rates)
    if arguments.json:
        plan = {"policy": chosen.name, "weight_decay": arguments.weight_decay}
        print_json({**gain_table_json(table, coefficients, doses, actions), **plan})
        return 0
    print(gain_table(table, coefficients, doses, actions, full=arguments.full))
    print(f"\npolicy {chosen.name}, weight decay {arguments.weight_decay:g}, mode {chosen.mode}")
    if rates is None:
        print("dose: add --lr and --steps to see how far decay alone would pull each gain")
    else:
        print(
            f"dose: pull of decay alone over {arguments.steps} steps of AdamW, from a "
            f"gain of 1; peak lr {arguments.lr:g}, {arguments.schedule or LINEAR} schedule, "
            f"{arguments.warmup or 0} warm-up steps"
        )
    return 0


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


def _planned(
    table: GainTable, settings: dict[str, Decay], rates: Sequence[float]
) -> tuple[dict[str, float | None], dict[str, Action]]:
    """Return dose and kind of decay of each gain; gains that are treated alike are computed once.

    The optimizer is taken to be AdamW, and every gain to start at 1: no weights are loaded.
    """
    import torch

    from gamma_nlp.decay.dose import Dose, planned_dose
    from gamma_nlp.decay.plan import target_of
    from gamma_nlp.gains.table import Action

    known: dict[tuple[Any, ...], Dose] = {}
    doses: dict[str, float | None] = {}
    actions: dict[str, Action] = {}
    lrs = torch.tensor(rates, dtype=torch.float64)
    for gain in table:
        decay = settings[gain.name]
        key = (decay, gain.dtype, gain.offset)
        if key not in known:
            value = torch.tensor([1.0 - gain.offset], dtype=getattr(torch, gain.dtype))
            known[key] = planned_dose(value, decay, lrs)
        dose = known[key]
        doses[gain.name] = dose.told
        if decay.coefficient:
            actions[gain.name] = Action(
                target=target_of(decay.center, gain.offset),
                deferred=dose.deferred,
                coupled=decay.mode == "coupled",
                exact=dose.exact,
            )
    return doses, actions
