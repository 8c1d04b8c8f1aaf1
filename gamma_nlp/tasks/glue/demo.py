"""``gamma-nlp demo``: what the library finds in known models, then policies compared by training.

The tables are printed by :mod:`~gamma_nlp.tasks.glue.demo_tables`, the arms are trained and
compared by :mod:`~gamma_nlp.tasks.glue.demo_arms`. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gamma_nlp.errors import GammaError, about_file, need_installed
from gamma_nlp.files import write_json
from gamma_nlp.tasks.run.parser import Parser

if TYPE_CHECKING:
    from gamma_nlp.tasks.glue.demo_arms import Demonstration

PACKAGES = ("transformers", "accelerate", "datasets", "evaluate", "matplotlib")
RECORD = "demo.json"
BATCH = 64
"""Sentences of a training step."""

_QUICK = {"examples": 512, "epochs": 2.0}
_FULL = {"examples": 4000, "epochs": 4.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the demonstration's options."""
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/quickstart"), help="folder (%(default)s)")
    add("--seeds", type=int, default=3, help="seeds of each arm, at least 2 (%(default)s)")
    add("--dose", type=float, default=0.1, help="share of a gain that decay takes (%(default)s)")
    add("--examples", type=int, help=f"training sentences ({_FULL['examples']})")
    add("--epochs", type=float, help=f"passes over them ({_FULL['epochs']:g})")
    add("--quick", action="store_true", help="train for a few steps only, to see that it works")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, train the arms, write ``arms.png`` and ``demo.json``; return 0.

    Raises:
        GammaError: An option is out of range, a package is missing, or the output folder holds
            something else. Nothing is written then.
    """
    _check(arguments)
    need_installed(PACKAGES, "recipes", "gamma-nlp demo needs")
    with _claimed(arguments.output):
        from gamma_nlp.hf.hub import hush
        from gamma_nlp.tasks.glue.demo_arms import compare
        from gamma_nlp.tasks.glue.demo_tables import print_tables

        hush()
        print_tables()
        compare(_demonstration(arguments), arguments.output / RECORD)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration with the words of a command line."""
    parser = Parser(prog="gamma-nlp demo", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _demonstration(arguments: argparse.Namespace) -> Demonstration:
    from gamma_nlp.tasks.glue.demo_arms import Demonstration

    examples, epochs = _sizes(arguments)
    return Demonstration(
        output=arguments.output,
        seeds=arguments.seeds,
        dose=arguments.dose,
        examples=examples,
        epochs=epochs,
        batch=BATCH,
    )


def _sizes(arguments: argparse.Namespace) -> tuple[int, float]:
    """Return the training sentences and the epochs, as given or by default."""
    default = _QUICK if arguments.quick else _FULL
    return (
        int(arguments.examples or default["examples"]),
        float(arguments.epochs or default["epochs"]),
    )


def _check(arguments: argparse.Namespace) -> None:
    examples, epochs = arguments.examples, arguments.epochs
    if (examples is not None and examples < 64) or (epochs is not None and not 0 < epochs < 1e6):
        raise GammaError("give at least 64 --examples and more than 0 --epochs, a finite number")
    examples, epochs = _sizes(arguments)
    if examples * epochs < 2 * BATCH:
        raise GammaError(
            f"--examples {examples} and --epochs {epochs:g} make fewer than two steps of {BATCH} "
            "sentences; give more of either"
        )
    if arguments.seeds < 2:
        raise GammaError(
            f"--seeds {arguments.seeds}: one run shows no spread, so it cannot tell arms apart; "
            "give at least 2"
        )
    if not 0.01 <= arguments.dose <= 0.99:
        raise GammaError(
            f"--dose {arguments.dose}: give a share from 0.01 to 0.99 (0.1 is a pull of 10 %)"
        )


@contextlib.contextmanager
def _claimed(output: Path) -> Iterator[None]:
    """Take over the folder of an earlier demonstration, and no other; an error gives it back.

    Raises:
        GammaError: It holds something else, or cannot be made.
    """
    output = output.resolve()
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    try:
        earlier = output.exists() and (not output.is_dir() or any(output.iterdir()))
        if earlier and not _is_demonstration(output):
            raise GammaError(
                f"{output} holds something other than an earlier demonstration; "
                "give another --output"
            )
        made = [folder for folder in (output, *output.parents) if not folder.exists()]
        if earlier:
            output.rename(old)
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / RECORD, {})
    except OSError as error:
        raise GammaError(about_file(error)) from error
    try:
        yield
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        for folder in made[1:]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if earlier:
            old.rename(output)
        elif not made:
            output.mkdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_demonstration(folder: Path) -> bool:
    try:
        json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    import gamma_nlp.tasks.run.main

    sys.exit(gamma_nlp.tasks.run.main.run(main))
