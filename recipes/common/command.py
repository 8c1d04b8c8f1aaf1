"""What the commands of the three experiments share: options, errors, and the end of a run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.errors import need
from gamma_nlp.files.write import write_json
from gamma_nlp.tasks.run.machine import hardware
from gamma_nlp.tasks.run.main import run as run_main
from gamma_nlp.tasks.run.parser import Parser
from gamma_nlp.tasks.run.versions import versions


def command_of(file: str) -> str:
    """Return what to type at the checkout's root to run the experiment in ``file``."""
    path = Path(file)
    return f"python -m recipes.{path.parent.name}.{path.stem}"


def make_parser(file: str, description: str | None, output: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every experiment has.

    Args:
        file: The experiment's ``__file__``.
        description: Its docstring, which ``--help`` prints.
        output: The default output folder.
    """
    parser = Parser(
        prog=command_of(file),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path(output), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, help="worker processes, one thread each; default: 2")
    parser.add_argument("--smoke", action="store_true", help="made-up images, a tiny grid, seconds")
    return parser


def run_experiment(
    run: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
) -> int:
    """Parse the arguments and run the experiment.

    Returns:
        The exit code of :func:`gamma_nlp.tasks.run.main.run`.
    """

    def main(words: Sequence[str]) -> None:
        options = parser.parse_args(words)
        need("matplotlib", "plot", "the plots need")  # before hours of training, not after
        run(options)

    return run_main(main, argv)


def machine() -> dict[str, Any]:
    """Return the hardware and the versions, which every results.json records."""
    return {"hardware": hardware(torch.device("cpu")) | {"threads": 1}, "versions": versions()}


def write_results(
    output: Path, results: dict[str, Any], *, cpu_seconds: float, start: float
) -> None:
    """Write results.json, and print how long the experiment took.

    Args:
        output: The experiment's folder.
        results: What was found; times, hardware and versions are added.
        cpu_seconds: What all cells took, those of earlier runs included.
        start: ``time.monotonic()`` at the beginning of this run.
    """
    seconds = round(time.monotonic() - start, 1)
    times = {"cpu_seconds": round(cpu_seconds, 1), "seconds": seconds}
    write_json(output / "results.json", {**results, **times, **machine()})
    print(
        f"\n{cpu_seconds:.0f} s of CPU time, {seconds:.0f} s now, torch {torch.__version__}; "
        f"written: {output}/results.json and *.png"
    )
