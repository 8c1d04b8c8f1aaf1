"""Why the steps of a run cannot be recorded: told before its first step, or found at it."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch
from torch import nn


def obstacle(args: Any, model: nn.Module) -> str | None:
    """Return why no step of such a Trainer can be recorded, or ``None``.

    Args:
        args: The Trainer's.
        model: Its model.
    """
    several = args.world_size > 1 or args.n_gpu > 1
    found = (
        (args.fp16, "the loss scaler of fp16 decides at each step whether it counts; use bf16"),
        (args.deepspeed, "DeepSpeed runs its own step"),
        (args.fsdp, "FSDP gathers and frees parameters within a step"),
        (several, "gradients are exchanged between several devices"),
        (args.gradient_accumulation_steps > 1, "gradient_accumulation_steps is above 1"),
        (args.torch_compile, "torch.compile is on, which joins kernels in its own way"),
        (
            args.gradient_checkpointing or _has(model, "gradient_checkpointing"),
            "gradient checkpointing reads the random generator's state",
        ),
        (args.torch_empty_cache_steps, "torch_empty_cache_steps frees memory within a step"),
        (_has(model, "layerdrop"), "layer drop leaves out layers at random"),
    )
    return next((why for there, why in found if there), None)


def _has(model: nn.Module, switch: str) -> bool:
    """Return whether a module has such a switch, and it is on."""
    return any(float(getattr(module, switch, 0) or 0) > 0 for module in model.modules())


def host_states(*, on_gpu: bool) -> tuple[Any, ...]:
    """Return the states of the host's random generators.

    A step that moves them decides in Python, and a recording would decide once and for all.

    Args:
        on_gpu: Whether tensors draw from another generator than the host's.
    """
    numbers: Any = numpy.random.get_state()
    drawn = torch.get_rng_state().numpy().tobytes() if on_gpu else b""
    return drawn, random.getstate(), numbers[1].tobytes(), numbers[2]
