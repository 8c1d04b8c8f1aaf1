"""``gamma-nlp plan``: what a run will be under an engine, before any machine is rented for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.cli import planned
from gamma_nlp.cli.common import (
    CONTRADICTED,
    add_command,
    add_model_arguments,
    load_table,
    need_transformers,
    print_json,
)
from gamma_nlp.errors import GammaError

if TYPE_CHECKING:
    from gamma_nlp.launch.launch import Launch

EXAMPLES = """\
  gamma-nlp plan MODEL --config recipes/accelerate/fsdp2_nodes.yaml
  gamma-nlp plan MODEL --config ds_config.json --processes 16 --mixed-precision bf16
  gamma-nlp plan MODEL --dose 0.1 --lr 3e-4 --steps 10000 --dtype float32 --json"""

DESCRIPTION = """\
Groups, memory of one process, doses, and what the engine does with the policy.
Exit code 1: the run would be refused."""

PRECISIONS = ("no", "bf16", "fp16", "fp8")
OPTIMS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd")
"""As :mod:`gamma_nlp.launch` has them, which would import torch."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "plan", run=run, examples=EXAMPLES, description=DESCRIPTION)
    add_model_arguments(parser)
    parser.add_argument(
        "--config", metavar="FILE", type=Path,
        help="launch file: accelerate's YAML, or DeepSpeed's JSON (without it, one process)",
    )  # fmt: skip
    parser.add_argument("--processes", metavar="N", type=int, help="in place of the file's number")
    parser.add_argument(
        "--mixed-precision", choices=PRECISIONS, help="in place of the file's, as of the script"
    )
    parser.add_argument(
        "--optim", choices=OPTIMS, default=OPTIMS[0], help="as in TrainingArguments (%(default)s)"
    )
    parser.add_argument("--momentum", metavar="M", type=float, default=0.0, help="of sgd (0)")
    planned.add_policy_arguments(parser)
    parser.add_argument(
        "--dose", metavar="D", type=float,
        help="in place of --weight-decay: the pull of decay alone over the planned run, as 0.1",
    )  # fmt: skip
    planned.add_plan_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 if the engine would refuse it."""
    need_transformers("plan")
    from gamma_nlp.decay import assign
    from gamma_nlp.decay.known_optimizers import native_mode
    from gamma_nlp.launch.launch_plan import plan_launch
    from gamma_nlp.launch.states import states_of

    policy = planned.chosen_policy(arguments)
    rates = planned.learning_rates(arguments)
    _set_decay(arguments, rates)
    launch = _launch(arguments)
    if arguments.momentum and arguments.optim != "sgd":
        raise GammaError("--momentum goes with --optim sgd")
    states = states_of(arguments.optim, arguments.momentum)
    model, table = load_table(arguments)
    table = assign.table_for(model, None, table, policy)
    decays = planned.settings_for(arguments, model, policy, table)
    doses = None
    if rates is not None:
        momentum = arguments.momentum if arguments.optim == "sgd" else None
        native = native_mode(states.cls, states.kwargs)
        dtype = "float32" if launch.mixed else None
        doses, _ = planned.doses(
            table, decays, rates, native=native, momentum=momentum, dtype=dtype
        )
    plan = plan_launch(model, table, decays, launch, states, rates=rates, doses=doses)
    if arguments.json:
        head = {"policy": policy.name, "weight_decay": arguments.weight_decay}
        print_json({**head, **plan.to_json()})
    else:
        print(f"policy {policy.name}, weight decay {arguments.weight_decay:g}\n{plan}")
    return CONTRADICTED if plan.refused else 0


def _set_decay(arguments: argparse.Namespace, rates: list[float] | None) -> None:
    """Turn ``--dose`` into the weight decay that takes it.

    Raises:
        GammaError: No run is planned, or the dose is none.
    """
    if arguments.dose is None:
        return
    if rates is None:
        raise GammaError("--dose needs --lr and --steps, from which its weight decay follows")
    from gamma_nlp.hf.schedule import decay_for_dose

    try:
        arguments.weight_decay = decay_for_dose(arguments.dose, rates)
    except GammaError as error:
        raise GammaError(f"--{str(error).removeprefix('dose: ')}") from None


def _launch(arguments: argparse.Namespace) -> Launch:
    """Return how the run is spread; without a file, one process.

    Raises:
        GammaError: The options or the file make no sense.
    """
    from gamma_nlp.launch.launch import Launch
    from gamma_nlp.launch.reading import read_launch

    if arguments.processes is not None and arguments.processes < 1:
        raise GammaError(f"--processes must be at least 1, not {arguments.processes}")
    if arguments.config is not None:
        return read_launch(
            arguments.config, processes=arguments.processes, precision=arguments.mixed_precision
        )
    if arguments.processes not in (None, 1):
        raise GammaError("--processes goes with --config FILE, which says how they share the model")
    return Launch(precision=arguments.mixed_precision or "no")
