"""``gamma-nlp table``: every gain of a model, its category, and what decay will do to it."""

from __future__ import annotations

import argparse
from typing import Any

from gamma_nlp.cli import planned
from gamma_nlp.cli.common import (
    add_command,
    add_model_arguments,
    load_table,
    need_transformers,
    print_json,
)

EXAMPLES = """\
  gamma-nlp table bert-base-uncased
  gamma-nlp table MODEL --policy all --weight-decay 0.1 --lr 3e-4 --steps 10000 --warmup 500
  gamma-nlp table path/to/config.json --full --json"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "table", run=run, examples=EXAMPLES)
    add_model_arguments(parser)
    planned.add_policy_arguments(parser)
    parser.add_argument("--full", action="store_true", help="one row per gain")
    planned.add_plan_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the gain table under a policy, with doses where a run is planned."""
    need_transformers("table")
    from gamma_nlp.decay import assign
    from gamma_nlp.gains.table import gain_table, gain_table_json

    chosen = planned.chosen_policy(arguments)
    rates = planned.learning_rates(arguments)
    model, table = load_table(arguments)
    table = assign.table_for(model, None, table, chosen)
    settings = planned.settings_for(arguments, model, chosen, table)
    coefficients = {gain.name: settings[gain.name].coefficient for gain in table}
    doses, actions = None, None
    if rates is not None:
        doses, actions = planned.doses(table, settings, rates)
    if arguments.json:
        plan = {"policy": chosen.name, "weight_decay": arguments.weight_decay}
        print_json({**gain_table_json(table, coefficients, doses, actions), **plan})
        return 0
    print(gain_table(table, coefficients, doses, actions, full=arguments.full))
    print(f"\npolicy {chosen.name}, weight decay {arguments.weight_decay:g}, mode {chosen.mode}")
    if rates is None:
        print("dose: add --lr and --steps to see how far decay alone would pull each gain")
    else:
        print(f"dose: {planned.told(arguments)}")
    return 0
