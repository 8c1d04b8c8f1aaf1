"""What a run's speed is made of: tokens, padding, sentences, and the time that is not training."""

from __future__ import annotations

import time
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
        sentences: Rows of training batches that hold something that counts.
        seen_shapes: The shapes of the tensors of a training batch, as many as there were.
        evaluation_seconds: Time spent in ``evaluate``.
    """

    tokens: Any = 0
    padded_tokens = 0
    sentences: Any = 0
    seen_shapes: frozenset[tuple[torch.Size, ...]] = frozenset()
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
        self.sentences += mask.any(dim=1).sum()
        tensors = (value for value in inputs.values() if isinstance(value, torch.Tensor))
        self.seen_shapes |= {tuple(tensor.shape for tensor in tensors)}
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
