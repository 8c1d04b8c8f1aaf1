"""What makes the steps of a run faster, where it does: graphs, torch.compile; decided and said."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gamma_nlp.hf.graphs.obstacles import obstacle

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

STEPS_PER_SHAPE = 5_000
"""Steps that pay for compiling one shape: some 50 seconds, at 10 ms saved by each. A guess."""


def settle_compile(
    recipe: Any, args: Any, model: nn.Module, *, shapes: int | None, steps: int
) -> str | None:
    """Decide what ``compile: auto`` means for a run; return the line that says so.

    On a CPU it is off, without a line. Call it before the Trainer is made.

    Args:
        recipe: The recipe's settings.
        args: The Trainer's; changed in place where it is on.
        model: The model to train.
        shapes: How many shapes batches have; ``None`` where they are not fixed.
        steps: Planned steps.
    """
    if recipe.compile != "auto" or args.torch_compile or args.device.type != "cuda":
        return None
    if recipe.graphs != "off" and obstacle(args, model) is None:
        return "torch.compile: off, since steps are replayed as graphs"
    if shapes is None:
        return "torch.compile: off, since batches have no fixed shapes and each is compiled anew"
    needed = STEPS_PER_SHAPE * shapes
    if steps < needed:
        return f"torch.compile: off, since {shapes} shapes of batches would need {needed} steps"
    args.torch_compile = True  # as TrainingArguments does where it is given
    args.torch_compile_backend = args.torch_compile_backend or "inductor"
    os.environ["ACCELERATE_DYNAMO_BACKEND"] = args.torch_compile_backend
    return f"torch.compile: on, for {shapes} shapes of batches and {steps} steps"


def load_ahead(args: Any) -> None:
    """Let batches travel to a GPU while it computes, where they are pinned."""
    if args.device.type == "cuda" and args.dataloader_pin_memory:
        args.accelerator_config.non_blocking = True


class CompileTime(_Base):
    """Times the first step of each shape of a compiled model; put it before the Trainer.

    Attributes:
        compile_seconds: The sum, zero where nothing is compiled.
        compile_decision: What ``settle_compile`` said.
    """

    compile_seconds = 0.0
    compile_decision: str | None = None
    _compiled: frozenset[Any] = frozenset()

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        shapes = tuple(x.shape for x in inputs.values() if isinstance(x, torch.Tensor))
        if not self.args.torch_compile or shapes in self._compiled:
            return super().training_step(model, inputs, *args, **kwargs)
        start = time.perf_counter()
        loss = super().training_step(model, inputs, *args, **kwargs)
        float(loss)  # waits for the device
        self.compile_seconds += time.perf_counter() - start
        self._compiled |= {shapes}
        return loss

    def compile_line(self) -> str | None:
        """Return how long compiling took; ``None`` where nothing was compiled."""
        if not self._compiled:
            return None
        count, seconds = len(self._compiled), self.compile_seconds
        return f"torch.compile: the first steps of {count} shape(s) took {seconds:.0f} s"
