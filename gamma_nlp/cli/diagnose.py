"""``gamma-nlp diagnose``: how the gains of a run grew, from its checkpoints alone."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import (
    CONTRADICTED,
    add_command,
    add_trust,
    need_transformers,
    note,
    print_json,
)
from gamma_nlp.errors import GammaError

EXAMPLES = """\
  gamma-nlp diagnose RUN
  gamma-nlp diagnose RUN/checkpoint-500 RUN/checkpoint-1000 -o gains.png
  gamma-nlp diagnose model.safetensors --config path/to/config.json --full"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "diagnose", run=run, examples=EXAMPLES,
        description="Reads the gains alone, so that the largest checkpoint takes seconds. Exits "
        "with 1 if a\ngain is not finite.",
    )  # fmt: skip
    parser.add_argument(
        "checkpoints", metavar="CHECKPOINT", nargs="+",
        help="folder or weight file, the folder of a run with checkpoint-N inside, or a hub name "
        "whose weights are in the cache; several must be of one run",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE",
        help="the model's config.json, or a run's gain_table.json, if none lies beside CHECKPOINT",
    )  # fmt: skip
    parser.add_argument(
        "--near-zero", metavar="X", type=float, default=0.05,
        help="a gain below X by absolute value counts as near 0 (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="one row per gain, every checkpoint")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="draw a picture as well: .png or .svg"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, a row per gain and checkpoint")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis; return 1 if a gain is not finite."""
    need_transformers("diagnose")
    if not 0 < arguments.near_zero < math.inf:
        raise GammaError(f"--near-zero must be a number above 0, not {arguments.near_zero:g}")
    if arguments.config == "":
        raise GammaError("--config is empty; give a config.json or a gain_table.json")
    if arguments.output is not None:
        from gamma_nlp.diagnose.plot import check_picture

        check_picture(arguments.output)
    from gamma_nlp.diagnose.data import to_csv, to_json
    from gamma_nlp.diagnose.diagnosis import diagnose
    from gamma_nlp.diagnose.report import report
    from gamma_nlp.hf.hub import hush

    hush()
    found = diagnose(
        arguments.checkpoints,
        config=arguments.config,
        near=arguments.near_zero,
        trust_remote_code=arguments.trust_remote_code,
        note=note,
    )
    if arguments.output is not None:
        from gamma_nlp.diagnose.plot import plot

        plot(found, arguments.output)
    if arguments.json:
        print_json(to_json(found))
    elif arguments.csv:
        print(to_csv(found), end="")
    else:
        print(report(found, full=arguments.full))
        if arguments.output is not None:
            print(f"\nwritten: {arguments.output}")
    return CONTRADICTED if found.broken else 0
