"""Report a run's decay: the plan at its start, and the norms of its gains on the way."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import torch
from torch import nn

from gamma_nlp.decay.plan import Plan
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.precision import rounded_away, rounding_warning
from gamma_nlp.files.write import write_json
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable, gain_table, gain_table_json
from gamma_nlp.wrappers import plain_names, whole

logger = logging.getLogger("gamma_nlp")

GAIN_NORM = "gain_norm/"
"""Prefix of the log key of a category's gain norm; the category follows."""


def announce(
    table: GainTable,
    plan: Plan,
    *,
    policy: DecayPolicy,
    weight_decay: float,
    optimizer: str,
    steps: int,
    autocast: bool,
    folder: Path,
    remedy: str | None = None,
) -> None:
    """Log and save the gain table with coefficients and doses; warn of decay lost to rounding.

    Args:
        table: The model's gain table.
        plan: What the optimizer will do over the run.
        policy: The policy in effect.
        weight_decay: The coefficient that the policy multiplies.
        optimizer: Name of the optimizer's class.
        steps: Planned optimizer steps.
        autocast: Whether the forward pass casts by itself; the remedy depends on it.
        folder: The folder for ``gain_table.json``.
        remedy: How to keep gains in float32, where the Trainer's own ways do not apply.
    """
    coefficients, doses = plan.of_gains(table)
    actions = plan.actions(table)
    rates = "unknown" if plan.rate_sum is None else f"{plan.rate_sum:.4g}"
    logger.info(
        "decay policy %r, weight_decay %g, %s, sum of learning rates %s\n%s%s",
        policy.name,
        weight_decay,
        optimizer,
        rates,
        gain_table(table, coefficients, doses, actions),
        "".join(f"\nno dose: {why}" for why in plan.unknown),
    )
    record = {
        "policy": dataclasses.asdict(policy),
        "weight_decay": weight_decay,
        "optimizer": optimizer,
        "training_steps": steps,
        "sum_of_learning_rates": plan.rate_sum,
        "no_dose_because": list(plan.unknown),
        **gain_table_json(table, coefficients, doses, actions),
    }
    write_json(folder / "gain_table.json", record)
    exact = {name: action.exact for name, action in actions.items()}
    lost = rounded_away(table, doses, exact)
    for coupled, is_deferred in ((False, False), (False, True), (True, False)):
        own = [
            gain
            for gain in lost
            if (actions[gain.name].coupled, actions[gain.name].deferred) == (coupled, is_deferred)
        ]
        if own:
            kept = not (coupled or is_deferred)
            logger.warning(rounding_warning(own, autocast, remedy, kept=kept, coupled=coupled))


def gain_norms(model: nn.Module, table: GainTable) -> dict[str, float]:
    """Return the root mean square of offset + weight over all gains of each category.

    Empty if sharding hides the gains (FSDP1, ZeRO-3). Waits for the device once.
    """
    plain = plain_names(name for name, _ in model.named_parameters())
    parameters = {plain[name]: p for name, p in model.named_parameters()}
    names = plain_names([*(gain.name for gain in table), *table.roles])
    squares: dict[Category, list[torch.Tensor]] = {}
    sizes: dict[Category, int] = {}
    for gain in table:
        parameter = parameters.get(names[gain.name])
        if gain.category is None:
            continue
        if parameter is None or parameter.numel() != gain.numel:
            return {}
        weight = whole(parameter.detach())
        square = (weight.float() + gain.offset).square().sum()
        squares.setdefault(gain.category, []).append(square)
        sizes[gain.category] = sizes.get(gain.category, 0) + gain.numel
    if not squares:
        return {}
    home = next(iter(squares.values()))[0].device
    sums = [torch.stack([one.to(home) for one in own]).sum() for own in squares.values()]
    means = zip(squares, torch.stack(sums).tolist(), strict=True)
    found = {category: math.sqrt(total / sizes[category]) for category, total in means}
    return {str(category): found[category] for category in Category if category in found}
