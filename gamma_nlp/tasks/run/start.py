"""What can only be checked once there is a Trainer, just before the first step."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.hf.optimizer import optim_name, split_choice


@contextlib.contextmanager
def usable_settings() -> Iterator[None]:
    """Turn whatever a Trainer raises while it is made into one line about the settings.

    Raises:
        GammaError: The Trainer, or a package that it sets up, refuses them.
    """
    try:
        yield
    except (GammaError, OSError):  # these name what is wrong
        raise
    except Exception as error:  # precision, optimizer, logs, hub: each has its own kinds
        raise GammaError(f"the Trainer cannot use these settings: {one_line(error)}") from error


@contextlib.contextmanager
def writing_nothing(args: Any) -> Iterator[None]:
    """Send what a Trainer writes when it is made into a folder that is removed again."""
    given = args.output_dir
    with tempfile.TemporaryDirectory() as folder:
        args.output_dir = folder
        try:
            yield
        finally:
            args.output_dir = given


def move_start(model: nn.Module, share: float | None, seed: int) -> None:
    """Move every weight by about ``share`` of itself, at random.

    Training and data then take their random numbers as they would have: a run that differs by this
    alone shows how far two runs of one policy drift apart.

    Raises:
        GammaError: No weight moved: the share is too small for the dtype.
    """
    if not share:
        return
    generator = torch.Generator().manual_seed(seed)
    moved = False
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                factor = 1 + share * noise.to(parameter.device)
                new = (parameter.double() * factor).to(parameter.dtype)
                moved = moved or bool(new.ne(parameter).any())
                parameter.copy_(new)
    if not moved:
        raise GammaError(f"init_noise {share:g} moves no weight of this dtype; 1e-7 suits float32")


def check_start(trainer: Any) -> None:
    """Refuse an optimizer that cannot be made, and a model that cannot read its own data.

    Args:
        trainer: Before training, on the model's own device.

    Raises:
        GammaError: Either fails, or a setting of the optimizer has no effect.
    """
    args, model = trainer.args, trainer.model
    chosen = split_choice(trainer, model)[:2]
    if args.optim_args:
        without = copy.copy(args)
        without.optim_args = None
        if trainer.get_optimizer_cls_and_kwargs(without, model) == chosen:
            raise GammaError(
                f"optim_args {args.optim_args!r} has no effect with optim {optim_name(args)}; "
                "leave it out"
            )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # placed when training starts
        return
    batch = trainer.data_collator([trainer.train_dataset[0]])
    was_training = model.training
    model.eval()
    devices = [args.device] if args.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            model(**{name: value.to(args.device) for name, value in batch.items()})
    except Exception as error:  # sizes that do not fit the data fail in many ways
        raise GammaError(
            f"the model cannot read the first example: {one_line(error)}; check the sizes in its "
            "config"
        ) from error
    finally:
        model.train(was_training)
