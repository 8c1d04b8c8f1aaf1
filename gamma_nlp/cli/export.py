"""``gamma-nlp export``: a policy's decision in the settings of another engine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gamma_nlp.cli import planned
from gamma_nlp.cli.common import add_command, add_trust, load_table, need_transformers
from gamma_nlp.errors import GammaError

EXAMPLES = """\
  gamma-nlp export meta-llama/Llama-3.2-1B --to torchtitan --weight-decay 0.1
  gamma-nlp export path/to/config.json --to nemo_automodel --policy iwd -o optimizer.yaml
  gamma-nlp export MODEL --to json -o decay.json"""

ABOUT = """\
Prints the fewest patterns that say what the policy decides, ready to paste. Before that the
engine's own rules are applied to them, and each parameter's decay is compared with the policy's."""

ENGINES = (
    "torchtitan, nemo_automodel, olmo_core, megatron, timm, or json (every parameter, and why)"
)


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "export", run=run, examples=EXAMPLES, description=ABOUT)
    parser.add_argument(
        "model", metavar="MODEL", help="hub name, local folder, or config.json (no weights needed)"
    )
    parser.add_argument("--to", metavar="ENGINE", required=True, help=ENGINES)
    planned.add_policy_arguments(parser)
    parser.add_argument(
        "--names", choices=("engine", "model"), default="engine",
        help="parameters as the engine's own model code calls them, or as MODEL does (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write to FILE, whole or not at all"
    )
    parser.add_argument(
        "--method", choices=("auto", "table", "graph"), default="auto",
        help="where categories come from, as for gamma-nlp table (%(default)s)",
    )  # fmt: skip
    add_trust(parser)
    parser.set_defaults(dtype="auto")


def run(arguments: argparse.Namespace) -> int:
    """Print the export, or write it."""
    need_transformers("export")
    from gamma_nlp.decay import assign
    from gamma_nlp.export import export
    from gamma_nlp.export.exported import check_target
    from gamma_nlp.files.write import write_text

    check_target(arguments.to)
    policy = planned.chosen_policy(arguments)
    if arguments.output is not None:
        _check_output(arguments.output)
    model, table = load_table(arguments)
    table = assign.table_for(model, None, table, policy)
    planned.settings_for(arguments, model, policy, table)  # notes what the policy does not reach
    try:
        done = export(
            model,
            to=arguments.to,
            policy=policy,
            weight_decay=arguments.weight_decay,
            table=table,
            names=arguments.names,
            source=arguments.model,
        )
    except GammaError as error:
        raise GammaError(_as_typed(str(error))) from error
    if arguments.output is None:
        print(done, end="")
    else:
        write_text(arguments.output, done.text)
        print(f"written: {arguments.output} ({len(done.coefficients)} parameters)")
    return 0


def _as_typed(text: str) -> str:
    """Return a message with options as they are typed here."""
    options = {"names='model'": "--names model", "to='json'": "--to json"}
    for argument, option in options.items():
        text = text.replace(argument, option)
    return text.replace("weight_decay is 0", "--weight-decay is 0")


def _check_output(target: Path) -> None:
    """Refuse an output that cannot or must not be written, before any work is done.

    Raises:
        GammaError: Its folder is not there, or it is a file that this command has not written.
    """
    from gamma_nlp.export.text import MADE_BY
    from gamma_nlp.files.output import check_file

    if not target.parent.is_dir():
        raise GammaError(f"-o {target}: there is no folder {target.parent}; make it first")
    check_file(target, (MADE_BY.encode(),), MADE_BY)
