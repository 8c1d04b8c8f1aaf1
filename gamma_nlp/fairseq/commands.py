"""fairseq's own commands, same options and output, with the shims and ``gamma_adam`` in place."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gamma_nlp.errors import GammaError, error_line, print_error
from gamma_nlp.fairseq import shims
from gamma_nlp.tasks.run.signals import INTERRUPTED

COMMANDS = ("preprocess", "train", "hydra_train", "generate", "interactive", "score")
"""The modules of ``fairseq_cli`` that have a command here."""


def run(command: str) -> int:
    """Run one of :data:`COMMANDS` on ``sys.argv``; return the exit code."""

    def work() -> None:
        module = prepare(f"fairseq_cli.{command}")
        if command == "hydra_train":
            module.pre_main = _train_under_hydra  # type: ignore[attr-defined]
        module.cli_main()

    return exit_code(work)


def exit_code(work: Callable[[], None]) -> int:
    """Run ``work``; return 0, 2 after printing the error that stopped it, 130 after Ctrl-C."""
    try:
        work()
    except GammaError as error:
        print_error(error)
        return 2
    except _Stopped as stop:
        print(stop, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    return 0


class _Stopped(SystemExit):
    """A GammaError on its way through hydra, which turns every Exception into a traceback.

    A process that fairseq started for one of several GPUs prints it when it ends, and no traceback.
    """


def _train_under_hydra(cfg: Any, **kwargs: Any) -> None:
    try:
        importlib.import_module("fairseq_cli.train").main(cfg, **kwargs)
    except GammaError as error:
        raise _Stopped(error_line(error)) from error


def prepare(entry: str = "fairseq") -> ModuleType:
    """Import a module of fairseq with the shims in place and ``gamma_adam`` registered.

    Raises:
        GammaError: As :func:`~gamma_nlp.fairseq.shims.apply`.
    """
    module = shims.apply(entry)
    importlib.import_module("gamma_nlp.fairseq.optimizer")
    importlib.import_module("gamma_nlp.fairseq.trainer")
    return module


def preprocess() -> int:
    """``gamma-fairseq-preprocess``."""
    return run("preprocess")


def train() -> int:
    """``gamma-fairseq-train``."""
    return run("train")


def hydra_train() -> int:
    """``gamma-fairseq-hydra-train``."""
    return run("hydra_train")


def generate() -> int:
    """``gamma-fairseq-generate``."""
    return run("generate")


def interactive() -> int:
    """``gamma-fairseq-interactive``."""
    return run("interactive")


def score() -> int:
    """``gamma-fairseq-score``."""
    return run("score")


# fairseq starts one process per GPU. Each imports this module first, and needs the shims too.
if multiprocessing.parent_process() is not None and importlib.util.find_spec("fairseq"):
    prepare()
