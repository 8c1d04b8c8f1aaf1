"""``gamma-nlp study``: train the same thing under several policies, doses and seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import add_command, note
from gamma_nlp.errors import GammaError, need_installed, shown

ABOUT = """\
Every run is a process and a folder of its own, below the study's output: results.json, run.log,
and failed.json where it failed. Failed runs do not stop the others. The same command goes on where
a study stopped: finished runs are kept, failed ones are tried again, and arms, doses and seeds that
the file has more of are added. `gamma-nlp report` says what came out."""

EXAMPLES = """\
  gamma-nlp study recipes/studies/sst2_minilm.yaml --set model=FOLDER
  gamma-nlp study my_study.yaml --dry-run
  gamma-nlp study my_study.yaml --jobs 4 --output runs/mine"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "study", run=run, examples=EXAMPLES, description=ABOUT)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the YAML file of the study")
    parser.add_argument(
        "--jobs", metavar="N", type=int,
        help="runs at a time (default: one on each GPU; without one, as many as fit the cores)",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, help="the study's folder (default: as in CONFIG)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be run, and write nothing"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[],
        help="set a key of all runs, as `set` in CONFIG does; may be given again",
    )  # fmt: skip
    parser.add_argument("--keep-failed", action="store_true", help="do not try failed runs again")


def run(arguments: argparse.Namespace) -> int:
    """Run a study, or say what it would be."""
    need_installed(("yaml", "scipy"), "study", "gamma-nlp study needs")
    from gamma_nlp.study.design.config import read_study
    from gamma_nlp.study.study import run_study

    if arguments.jobs is not None and arguments.jobs < 1:
        raise GammaError(f"--jobs must be at least 1, not {arguments.jobs}")
    changes = {"set": _settings(arguments.set)}
    return run_study(
        read_study(arguments.config, arguments.output, changes),
        jobs=arguments.jobs,
        dry_run=arguments.dry_run,
        keep_failed=arguments.keep_failed,
        note=note,
    )


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings that ``--set`` gives, with values read as YAML."""
    from gamma_nlp.tasks.run.yaml_file import parse_yaml

    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise GammaError(f"--set {word}: give KEY=VALUE, such as num_train_epochs=2")
        if key in found:
            raise GammaError(f"--set {key} is given twice; leave one out")
        read = parse_yaml(f"{key}: {value}", f"--set {word}")
        if list(read) != [key]:
            raise GammaError(f"--set {shown(word)}: give one KEY=VALUE for each --set")
        found |= read
    return found
