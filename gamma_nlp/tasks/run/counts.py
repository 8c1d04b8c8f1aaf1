"""What a run's speed is made of: tokens, padding, sentences, and the time that is not training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class RunCounts(_Base):
    """Counts what a Trainer trains on, on this process; put it before the Trainer.

    Attributes:
        tokens: Tokens of training batches, without padding.
        padded_tokens: With padding.
        sentences: Rows of training batches.
        evaluation_seconds: Time spent in ``evaluate``.
    """

    tokens: Any = 0
    padded_tokens = 0
    sentences = 0
    evaluation_seconds = 0.0
    _evaluating = False

    def counted(self, inputs: Any) -> torch.Tensor:
        """Return a tensor of shape (sentences, width): 1 where a token of the batch counts.

        The attention mask, unless a subclass counts something else.
        """
        mask: torch.Tensor = inputs["attention_mask"]
        return mask

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        mask = self.counted(inputs)
        self.tokens += mask.sum()  # stays on the device: reading it here would wait for the GPU
        self.padded_tokens += mask.numel()
        self.sentences += len(mask)
        return super().training_step(model, inputs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        if self._evaluating:  # several evaluation sets: the Trainer calls this once more for each
            return super().evaluate(*args, **kwargs)
        self._evaluating, start = True, time.perf_counter()
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._evaluating = False
            self.evaluation_seconds += time.perf_counter() - start


def speed_line(results: Mapping[str, Any], units: Mapping[str, str]) -> str:
    """Return how fast a run was, in one line.

    Args:
        results: What its ``results.json`` holds.
        units: The rates among the results to show, and the unit of each.
    """
    if results["padding_share"] is None:  # it was stopped after its last step
        return "no step was left to train"
    rates = ", ".join(f"{results[key]:.0f} {unit}" for key, unit in units.items())
    return (
        f"{rates}, padding {results['padding_share']:.1%}, {results['train_seconds']:.0f} s of "
        f"training on {results['world_size']} process(es)"
    )
