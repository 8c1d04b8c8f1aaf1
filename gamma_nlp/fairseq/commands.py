"""fairseq's commands with the shims and ``gamma_adam`` in place: same options, same output.

Under torchrun, or without the entry points: ``python -m gamma_nlp.fairseq train DATA ...``.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys
from types import ModuleType
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq import shims

COMMANDS = ("preprocess", "train", "hydra_train", "generate", "interactive", "score")
"""The modules of ``fairseq_cli`` that have a command here."""


def run(command: str) -> int:
    """Run one of :data:`COMMANDS` with the words of ``sys.argv``; return its exit status."""
    try:
        module = prepare(f"fairseq_cli.{command}")
        if command == "hydra_train":
            module.pre_main = _train_under_hydra  # type: ignore[attr-defined]
        module.cli_main()
    except GammaError as error:
        return _failed(error)
    return 0


def _failed(error: GammaError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _train_under_hydra(cfg: Any, **kwargs: Any) -> None:
    try:
        importlib.import_module("fairseq_cli.train").main(cfg, **kwargs)
    except GammaError as error:  # hydra would print a traceback, and not go on to `run`
        sys.exit(_failed(error))


def prepare(entry: str = "fairseq") -> ModuleType:
    """Import a module of fairseq with the shims in place and ``gamma_adam`` registered."""
    module = shims.apply(entry)
    importlib.import_module("gamma_nlp.fairseq.optimizer")
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


# fairseq starts one process per GPU, which imports the command's module before anything else.
if multiprocessing.parent_process() is not None and importlib.util.find_spec("fairseq"):
    prepare()
