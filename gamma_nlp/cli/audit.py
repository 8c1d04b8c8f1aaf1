"""``gamma-nlp audit --all``: the stock Trainer's rule over every text model type."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from gamma_nlp.cli import coverage
from gamma_nlp.errors import GammaError

ALONE = {"method": "auto", "dtype": "auto", "trust_remote_code": False}
"""Options of one MODEL, with the value that says nothing was asked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--all`` and what goes with it to the parser of ``gamma-nlp audit``."""
    group = parser.add_argument_group("all models")
    group.add_argument(
        "--all", action="store_true",
        help="in place of MODEL: every text model type of transformers, each built small",
    )  # fmt: skip
    coverage.add_sweep_arguments(group)


def check(arguments: argparse.Namespace) -> None:
    """Insist on either MODEL or ``--all``, and on options that go with it.

    Raises:
        GammaError: Both or neither, or an option of the other.
    """
    if arguments.all and arguments.model is not None:
        raise GammaError(
            f"audit takes a MODEL or --all, not both: leave out {arguments.model!r} or --all"
        )
    if not arguments.all and arguments.model is None:
        raise GammaError("audit needs a MODEL (hub name, folder or config.json) or --all")
    parser = argparse.ArgumentParser()
    coverage.add_sweep_arguments(parser)
    defaults = ALONE if arguments.all else vars(parser.parse_args([]))
    for name, value in defaults.items():
        if getattr(arguments, name) != value:
            option = "--" + name.replace("_", "-")
            raise GammaError(f"{option} goes with {'a MODEL' if arguments.all else '--all'} only")


def run_all(arguments: argparse.Namespace) -> None:
    """``gamma-nlp audit --all``."""
    version = coverage.transformers_version("audit --all")
    from gamma_nlp.check.sweep import audit_types, small_models

    types = arguments.types.split(",") if arguments.types else None
    sweep = audit_types.sweep(types, arguments.seconds, arguments.jobs)
    if arguments.json:
        found = [one for classes in sweep for one in classes]
        data = [{**asdict(one), "clean": not one.problem and not one.accidents} for one in found]
        print(json.dumps({"transformers": version, "models": data}, indent=2))
        return
    width = max(map(len, types or small_models.text_types()))
    print(f"# transformers {version}: gamma-nlp audit --all")
    print(audit_types.head(width))
    done = []
    for classes in sweep:
        done.append(classes)
        print(audit_types.line(classes, width), flush=True)
    print(audit_types.summary(done))
