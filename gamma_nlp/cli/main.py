"""The ``gamma-nlp`` command: arguments in, a table or JSON out, errors without a traceback."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gamma_nlp
from gamma_nlp.cli import audit as cli_audit
from gamma_nlp.cli import coverage, probe, score, translate
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import gain_table, gain_table_json
from gamma_nlp.hf.hub import hush

if TYPE_CHECKING:
    from torch import nn

    from gamma_nlp.decay.groups import Decay
    from gamma_nlp.gains.table import GainTable

SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for an error of the user's."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["demo"]:  # it has its own options
            run_demo(words[1:])
            return 0
        arguments = parser().parse_args(words)
        with warnings.catch_warnings():
            arguments.run(arguments)
        sys.stdout.flush()
    except GammaError as error:
        print(f"gamma-nlp: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("gamma-nlp: interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The argument parser, apart from :func:`main` so that tests and docs can read it."""
    top = argparse.ArgumentParser(
        prog="gamma-nlp", description="Weight decay for normalisation gains, by their place."
    )
    top.add_argument("--version", action="version", version=f"gamma-nlp {gamma_nlp.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    table = commands.add_parser("table", help="every gain of a model: category, why, decay, dose")
    _model_arguments(table)
    table.add_argument("--policy", default="guidelines", help="preset or file (%(default)s)")
    table.add_argument("--weight-decay", type=float, default=0.01, help="(%(default)s)")
    table.add_argument("--lr", type=float, help="peak learning rate; with --steps adds the dose")
    table.add_argument("--steps", type=int, help="optimizer steps of the planned run")
    table.add_argument("--warmup", type=int, default=0, help="warm-up steps (%(default)s)")
    table.add_argument("--schedule", choices=SCHEDULES, default="linear", help="(%(default)s)")
    table.add_argument("--full", action="store_true", help="one row per gain")
    table.set_defaults(run=run_table)

    audit = commands.add_parser(
        "audit", help="what the stock Trainer's rule decays or spares by accident"
    )
    _model_arguments(audit, nargs="?")
    cli_audit.add_arguments(audit)
    audit.set_defaults(run=run_audit)

    probe.add_parser(commands)
    coverage.add_parser(commands)
    score.add_parser(commands)
    translate.add_parser(commands)

    commands.add_parser("demo", help="train tiny models under several policies, on CPU")
    return top


def _model_arguments(command: argparse.ArgumentParser, nargs: str | None = None) -> None:
    command.add_argument(
        "model", metavar="MODEL", nargs=nargs,
        help="hub name, local folder, or config.json (no weights needed)",
    )  # fmt: skip
    command.add_argument(
        "--method", choices=("auto", "table", "graph"), default="auto",
        help="name tables, the graph of a forward pass, or whichever knows (%(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--dtype", choices=DTYPES, default="auto",
        help="of the parameters in training; auto: as the config says",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--trust-remote-code", action="store_true", help="run Python files that come with MODEL"
    )


def run_table(arguments: argparse.Namespace) -> None:
    """``gamma-nlp table``."""
    from gamma_nlp.decay import groups, policy

    chosen = policy.DecayPolicy.load(arguments.policy)
    lrs = learning_rates(arguments)
    _, table = _model_and_table(arguments)
    settings = groups.assign(table, chosen, arguments.weight_decay)
    coefficients = {gain.name: settings[gain.name].coefficient for gain in table}
    doses = None if lrs is None else _doses(table, settings, lrs)
    if arguments.json:
        _print_json(
            {
                **gain_table_json(table, coefficients, doses),
                "policy": chosen.name,
                "weight_decay": arguments.weight_decay,
            }
        )
        return
    print(gain_table(table, coefficients, doses, full=arguments.full))
    print(f"\npolicy {chosen.name}, weight decay {arguments.weight_decay:g}, mode {chosen.mode}")
    if lrs is None:
        print("dose: say --lr and --steps to see how far decay alone would pull each gain")
    else:
        print(
            f"dose: pull of decay alone over {arguments.steps} steps of AdamW, peak lr "
            f"{arguments.lr:g}, {arguments.schedule} schedule, {arguments.warmup} warm-up steps"
        )


def run_audit(arguments: argparse.Namespace) -> None:
    """``gamma-nlp audit``."""
    cli_audit.check(arguments)
    if arguments.all:
        cli_audit.run_all(arguments)
        return

    from gamma_nlp.check.audit import audit

    model, table = _model_and_table(arguments)
    found = audit(model, table)
    if arguments.json:
        _print_json(found.to_json())
    else:
        print(found)


def run_demo(words: Sequence[str]) -> None:
    """``gamma-nlp demo``, with the words that follow it."""
    try:
        from gamma_nlp.tasks.glue import demo
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gamma_nlp"):
            raise
        raise GammaError(
            f"the demo needs {error.name}: pip install 'gamma_nlp[recipes]'"
        ) from error
    demo.main(words)


def learning_rates(arguments: argparse.Namespace) -> list[float] | None:
    """The planned learning rate of every step, as transformers' schedules give it."""
    lr, steps, warmup = arguments.lr, arguments.steps, arguments.warmup
    if lr is None and steps is None:
        return None
    if lr is None or steps is None:
        missing = "--lr" if lr is None else "--steps"
        raise GammaError(f"a dose needs --lr and --steps: {missing} is missing")
    if not (math.isfinite(lr) and lr > 0):
        raise GammaError(f"--lr must be a number above 0, got {lr}")
    if not 0 <= warmup <= steps or steps < 1:
        raise GammaError(f"--steps must be at least 1 and --warmup between 0 and --steps, "
                         f"got {steps} and {warmup}")  # fmt: skip
    return [lr * _factor(step, steps, warmup, arguments.schedule) for step in range(steps)]


def _factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    if step < warmup:
        return step / warmup
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _model_and_table(arguments: argparse.Namespace) -> tuple[nn.Module, GainTable]:
    hush()
    from gamma_nlp.gains.placement import categorize
    from gamma_nlp.hf.models import load_model

    model = load_model(arguments.model, trust_remote_code=arguments.trust_remote_code)
    if arguments.dtype != "auto":
        import torch

        model.to(getattr(torch, arguments.dtype))
    return model, categorize(model, method=arguments.method)


def _doses(
    table: GainTable, settings: dict[str, Decay], lrs: Sequence[float]
) -> dict[str, float | None]:
    """Dose per gain; gains alike in coefficient, mode, dtype and offset are computed once."""
    import torch

    from gamma_nlp.decay.dose import decay_dose

    known: dict[tuple[Any, ...], float | None] = {}
    doses = {}
    for gain in table:
        setting = settings[gain.name]
        key = (setting.coefficient, setting.mode, gain.dtype, gain.offset)
        if key not in known:
            known[key] = decay_dose(
                setting.coefficient,
                lrs,
                dtype=getattr(torch, gain.dtype),
                mode=setting.mode,
                offset=gain.offset,
            )
        doses[gain.name] = known[key]
    return doses


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2))


if __name__ == "__main__":
    sys.exit(main())
