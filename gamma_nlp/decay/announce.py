"""Say at the start of a run what its decay will do: in the log, and in ``gain_table.json``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from gamma_nlp.decay import plan as train_log
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.files import write_json
from gamma_nlp.gains.table import GainTable
from gamma_nlp.rows import gain_table, gain_table_json

logger = logging.getLogger("gamma_nlp")


def announce(
    table: GainTable,
    plan: train_log.Plan,
    *,
    policy: DecayPolicy,
    weight_decay: float,
    optimizer: str,
    steps: int,
    autocast: bool,
    folder: Path,
    remedy: str | None = None,
) -> None:
    """Log the gain table with coefficients and doses, save it, and warn of decay lost to rounding.

    Args:
        table: The model's gain table.
        plan: What the optimizer will do over the run.
        policy: The policy in effect.
        weight_decay: What the policy multiplies.
        optimizer: Name of the optimizer's class.
        steps: Planned optimizer steps.
        autocast: Whether the forward pass casts by itself; decides which remedy is named.
        folder: Where ``gain_table.json`` goes.
        remedy: What keeps gains in float32 where the Trainer's own ways do not apply.
    """
    coefficients, doses = train_log.for_table(table, plan)
    rates = "unknown before the run (no end, or a schedule by scores), like the doses"
    if plan.rate_sum is not None:
        rates = f"{plan.rate_sum:.4g}"
    logger.info(
        "decay policy %r, weight_decay %g, %s, sum of learning rates %s\n%s",
        policy.name,
        weight_decay,
        optimizer,
        rates,
        gain_table(table, coefficients, doses),
    )
    record = {
        "policy": dataclasses.asdict(policy),
        "weight_decay": weight_decay,
        "optimizer": optimizer,
        "training_steps": steps,
        "sum_of_learning_rates": plan.rate_sum,
        **gain_table_json(table, coefficients, doses),
    }
    write_json(folder / "gain_table.json", record)
    lost = train_log.rounded_away(table, coefficients, doses, plan.rate_sum)
    if lost:
        logger.warning(train_log.rounding_warning(lost, autocast, remedy))
