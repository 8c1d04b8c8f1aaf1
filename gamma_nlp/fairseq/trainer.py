"""fairseq's trainer around ``gamma_adam``: a plan first, and errors that say what to type.

Importing this module changes the trainer.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from fairseq.trainer import Trainer

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.fairseq.plan import active, make_plan
from gamma_nlp.fairseq.tensors import UNFLATTEN


def _uses_gamma_adam(trainer: Any) -> bool:
    return getattr(trainer.cfg.optimizer, "_name", None) == "gamma_adam"


_stock_build = Trainer._build_optimizer


@functools.wraps(_stock_build)
def _build_optimizer(self: Any) -> None:
    if not _uses_gamma_adam(self):
        _stock_build(self)
        return
    _check_flat(self.cfg.common)
    with active(make_plan(self)):
        _stock_build(self)


def _check_flat(common: Any) -> None:
    """Raise if ``--fp16`` would put its flat tensor on a GPU and there is none."""
    other = (common.fp16_no_flatten_grads, common.memory_efficient_fp16, common.amp, common.bf16)
    if not common.fp16 or any(other):
        return
    try:
        torch.cuda.current_device()
    except (AssertionError, RuntimeError) as error:
        raise GammaError(
            f"--fp16 keeps its flat tensor on a GPU, and torch finds none ({one_line(error)}); "
            f"{UNFLATTEN}"
        ) from error


_stock_load = Trainer.load_checkpoint


@functools.wraps(_stock_load)
def _load_checkpoint(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return _stock_load(self, filename, *args, **kwargs)
    except AssertionError as error:
        changes = _changes(self) if _uses_gamma_adam(self) else []
        if not changes:
            raise
        raise GammaError(
            f"{filename}: {' and '.join(changes)}, so its moments cannot be used; continue with "
            "the optimizer, criterion and precision of that run, or add --reset-optimizer to keep "
            "only its weights: moments start over, and updates count from 0"
        ) from error


def _changes(trainer: Any) -> list[str]:
    """Return what differs between the run of the checkpoint just read and this one."""
    last = trainer._optim_history[-1] if trainer._optim_history else {}
    present = {"criterion": trainer.get_criterion(), "optimizer": trainer.optimizer}
    pairs = {what: (last.get(f"{what}_name"), type(one).__name__) for what, one in present.items()}
    return [
        f"its {what} was another ({before} vs {now})"
        for what, (before, now) in pairs.items()
        if before and before != now
    ]


Trainer._build_optimizer = _build_optimizer
Trainer.load_checkpoint = _load_checkpoint
