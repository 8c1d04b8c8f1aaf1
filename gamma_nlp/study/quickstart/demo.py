"""``gamma-nlp demo``: what the library finds in known models, then two small studies.

A post-norm BERT and a pre-norm ModernBERT, both tiny, learn a corpus that the package makes itself,
under three policies. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, about_file, need_installed
from gamma_nlp.study.config import read_study

PACKAGES = ("transformers", "accelerate", "datasets", "evaluate", "matplotlib", "scipy", "jinja2")
MODELS = {"postnorm": "post-norm (BERT)", "prenorm": "pre-norm (ModernBERT)"}
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
    add("--examples", type=int, help=f"training sentences, at most {_FULL['examples']} (all)")
    add("--epochs", type=float, help=f"passes over them ({_FULL['epochs']:g})")
    add("--jobs", metavar="N", type=int, help="runs at a time (default: as many as fit the cores)")
    add("--quick", action="store_true", help="train for a few steps only, to see that it works")


def run(arguments: argparse.Namespace, note: Callable[[str], None] = print) -> int:
    """Print the tables, run both studies and report them; return the exit code.

    Args:
        arguments: As :func:`add_arguments` declares them.
        note: Prints what the user should know.

    Raises:
        GammaError: An option is out of range, a package is missing, or the output folder holds
            something else, or a demonstration with other options. Nothing is written then.
    """
    check(arguments)
    need_installed(PACKAGES, "study", "gamma-nlp demo needs")
    from gamma_nlp.hf.hub import hush
    from gamma_nlp.study.quickstart.tables import print_tables
    from gamma_nlp.study.study import run_study

    started = time.perf_counter()
    _check_folder(arguments.output)
    hush()
    print_tables()
    print("\n=== 4. Does it matter? Two tiny models, three policies, compared by training")
    for name, what in MODELS.items():
        print(f"\n--- {what}\n")
        study = read_study(config(name), arguments.output / name, changes(arguments))
        code = run_study(study, jobs=arguments.jobs, note=note)
        if code:
            return code
    for name, what in MODELS.items():
        print(f"\n--- {what}\n")
        _report(arguments.output / name)
    print(
        "\nTiny models on a toy corpus: this shows how to compare, not which policy is better for "
        f"yours.\nwritten: {arguments.output}, after {time.perf_counter() - started:.0f} s; open "
        f"{arguments.output / 'prenorm' / 'report' / 'report.html'}"
    )
    return 0


def config(name: str) -> Path:
    """Return the YAML file of one of the two studies."""
    return Path(str(resources.files("gamma_nlp.study.quickstart") / f"{name}.yaml"))


def changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the options change in the studies' configs."""
    examples, epochs = _sizes(arguments)
    sizes = {"max_train_examples": examples, "num_train_epochs": epochs}
    return {"seeds": arguments.seeds, "doses": [arguments.dose], "set": sizes}


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that make no demonstration.

    Raises:
        GammaError: Names the option.
    """
    examples, epochs = arguments.examples, arguments.epochs
    most = _FULL["examples"]
    if examples is not None and not 64 <= examples <= most:
        raise GammaError(f"give at least 64 --examples and at most {most:.0f}, not {examples}")
    if epochs is not None and not 0 < epochs < 1e6:
        raise GammaError("give more than 0 --epochs, a finite number")
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
    if not 0.01 <= arguments.dose <= 0.99 or math.isnan(arguments.dose):
        raise GammaError(
            f"--dose {arguments.dose}: give a share from 0.01 to 0.99 (0.1 is a pull of 10 %)"
        )
    if arguments.jobs is not None and arguments.jobs < 1:
        raise GammaError(f"--jobs must be at least 1, not {arguments.jobs}")


def _sizes(arguments: argparse.Namespace) -> tuple[int, float]:
    """Return the training sentences and the epochs, as given or by default."""
    default = _QUICK if arguments.quick else _FULL
    return (
        int(arguments.examples or default["examples"]),
        float(arguments.epochs or default["epochs"]),
    )


def _check_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        foreign = {path.name for path in output.iterdir()} - MODELS.keys()
    except OSError as error:
        raise GammaError(about_file(error)) from error
    if foreign:
        raise GammaError(
            f"{output} holds something other than an earlier demonstration; give another --output"
        )


def _report(folder: Path) -> None:
    from gamma_nlp.study.found import find
    from gamma_nlp.study.report.findings import findings
    from gamma_nlp.study.report.text import as_text
    from gamma_nlp.study.report.write import write_report

    results = findings(find(folder))
    write_report(results, folder / "report")
    print(as_text(results), end="")
