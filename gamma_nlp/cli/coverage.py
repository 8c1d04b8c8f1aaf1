"""``gamma-nlp coverage``: which model types of transformers are placed, and where."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from typing import Any

from gamma_nlp.cli.common import (
    CONTRADICTED,
    add_command,
    add_sweep_arguments,
    need_transformers,
    print_json,
    sweep_options,
    with_progress,
)

EXAMPLES = """\
  gamma-nlp coverage --types bert,llama
  gamma-nlp coverage --kind other --resume answers.jsonl
  gamma-nlp coverage --jobs 4 --json"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "coverage", run=run, examples=EXAMPLES,
        description="Builds every model type of transformers small, places its gains and probes\n"
        "them. Exits with 1 if two sources contradict each other, or if a class was cut off.",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON, every gain included")
    add_sweep_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line per model class; return 1 if two sources contradict each other."""
    need_transformers("coverage")
    import transformers

    from gamma_nlp.check.sweep import coverage

    results = []
    sweep = with_progress(coverage.sweep(**sweep_options(arguments)))
    if not arguments.json:
        print(f"# transformers {transformers.__version__}: gamma-nlp coverage")
    for result in sweep:
        results.append(result)
        if not arguments.json:
            print(result, flush=True)
    if arguments.json:
        print_json([{**asdict(result), "covered": result.covered} for result in results])
    else:
        print(summary(results))
    return CONTRADICTED if any(r.contradicted or r.cut for r in results) else 0


def summary(results: list[Any]) -> str:
    """Say how many types are covered, and why the others are not."""
    by_type: dict[str, list[Any]] = {}
    for result in results:
        by_type.setdefault(result.type, []).append(result)
    covered = [name for name, found in by_type.items() if all(r.covered for r in found)]
    tables = [n for n in covered if all(r.table == "agrees" for r in by_type[n])]
    gains: Counter[str] = Counter()
    for result in results:
        gains.update(str(row[1] or "unused") for row in result.gains)
    refused = sum(bool(result.problem) for result in results)
    agreed = sum(result.covered for result in results)
    silent = sum(not r.problem and not r.covered and not r.contradicted for r in results)
    lines = [
        f"# {len(covered)} of {len(by_type)} types covered by graph and probe, "
        f"{len(tables)} of them by table too",
        f"# {sum(gains.values())} gains in {len(results)} model classes: "
        + ", ".join(f"{what} {count}" for what, count in sorted(gains.items())),
        f"# {agreed} classes covered, {silent} with a gain that the probe cannot settle, "
        f"{sum(r.contradicted for r in results)} contradicted, {refused} not placed",
    ]
    absent = sorted({r.type for r in results if r.missing})
    if absent:
        lines.append(f"# need a package that is not installed: {', '.join(absent)}")
    return "\n".join(lines)
