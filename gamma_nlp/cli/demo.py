"""``gamma-nlp demo``: train tiny models under several policies and compare them."""

from __future__ import annotations

import argparse
from typing import Any

from gamma_nlp.cli.common import add_command
from gamma_nlp.tasks.glue import demo

EXAMPLES = """\
  gamma-nlp demo
  gamma-nlp demo --output runs/demo --dose 0.3"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "demo", run=run, examples=EXAMPLES)
    demo.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration."""
    return demo.run(arguments)
