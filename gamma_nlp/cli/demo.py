"""``gamma-nlp demo``: known models, then tiny ones trained under several policies."""

from __future__ import annotations

import argparse
from typing import Any

from gamma_nlp.cli.common import add_command, note
from gamma_nlp.study.quickstart import demo

EXAMPLES = """\
  gamma-nlp demo
  gamma-nlp demo --output runs/demo --dose 0.3"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "demo", run=run, examples=EXAMPLES)
    demo.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration."""
    return demo.run(arguments, note)
