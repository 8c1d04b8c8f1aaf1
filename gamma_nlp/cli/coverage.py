"""``gamma-nlp coverage``: which text model types of transformers are placed, and where."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from gamma_nlp import workers
from gamma_nlp.errors import GammaError


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = commands.add_parser(
        "coverage",
        help="build every text model type of transformers small, place and probe its gains",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, every gain included")
    add_sweep_arguments(parser)
    parser.set_defaults(run=run)


def add_sweep_arguments(parser: argparse._ActionsContainer) -> None:
    """Add what a sweep over model types can be told: which, how many at a time, for how long."""
    parser.add_argument("--types", metavar="A,B", help="model types (all of them)")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=workers.default_jobs(),
        help="models built at a time, each in a process of its own (2, or the number of CPUs "
        "where that is smaller)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=workers.SECONDS, help="limit per model class (%(default)s)"
    )


def transformers_version(command: str) -> str:
    """The version of transformers, which a sweep needs.

    Raises:
        GammaError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise GammaError(
            f"gamma-nlp {command} needs transformers: pip install 'gamma_nlp[hf]'"
        ) from error
    return str(transformers.__version__)


def run(arguments: argparse.Namespace) -> None:
    """``gamma-nlp coverage``; exits with 1 if two sources contradict each other."""
    version = transformers_version("coverage")
    from gamma_nlp.check.sweep import coverage

    types = arguments.types.split(",") if arguments.types else None
    results = []
    sweep = coverage.sweep(types, arguments.seconds, arguments.jobs)
    if not arguments.json:
        print(f"# transformers {version}: gamma-nlp coverage")
    for result in sweep:
        results.append(result)
        if not arguments.json:
            print(result, flush=True)
    if arguments.json:
        print(json.dumps([{**asdict(r), "covered": r.covered} for r in results], indent=2))
    else:
        print(summary(results))
    if any(result.contradicted for result in results):
        sys.exit(1)


def summary(results: list[Any]) -> str:
    """How many types are covered, and why the others are not."""
    by_type: dict[str, list[Any]] = {}
    for result in results:
        by_type.setdefault(result.type, []).append(result)
    covered = [name for name, found in by_type.items() if all(r.covered for r in found)]
    tables = [n for n in covered if all(r.table == "agrees" for r in by_type[n])]
    gains: Counter[str] = Counter()
    for result in results:
        gains.update(str(row[1] or "unused") for row in result.gains)
    lines = [
        f"# {len(covered)} of {len(by_type)} types covered by graph and probe, "
        f"{len(tables)} of them by table too",
        f"# {sum(gains.values())} gains in {len(results)} model classes: "
        + ", ".join(f"{what} {count}" for what, count in sorted(gains.items())),
    ]
    absent = sorted({r.type for r in results if r.missing})
    if absent:
        lines.append(f"# need a package that is not installed: {', '.join(absent)}")
    return "\n".join(lines)
