"""What a run's speed is made of: tokens, padding, sentences, and the time that is not training.

Each checkpoint keeps the counts, so that those of a resumed run are of all its parts.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

COUNTS = "counts.json"
"""In a checkpoint: the counts of its run up to it."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What all processes have trained on."""

    tokens: int = 0
    padded_tokens: int = 0
    sentences: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            tokens=self.tokens + other.tokens,
            padded_tokens=self.padded_tokens + other.padded_tokens,
            sentences=self.sentences + other.sentences,
        )

    @property
    def padding_share(self) -> float | None:
        """The share of padding; ``None`` where nothing was trained on."""
        return round(1 - self.tokens / self.padded_tokens, 4) if self.padded_tokens else None


def saved_counts(checkpoint: Path) -> Counts | None:
    """Return the counts that a checkpoint keeps; ``None`` for one of an older version."""
    try:
        return Counts(**read_json(checkpoint / COUNTS))
    except (GammaError, OSError, TypeError):
        return None


class RunCounts(_Base):
    """Counts what a Trainer trains on, on this process; put it before the Trainer.

    Attributes:
        before: The counts of the parts before this one, of all processes; ``None`` if not known.
        tokens: Tokens of training batches, without padding.
        padded_tokens: With padding.
        sentences: Rows of training batches that hold something that counts.
        seen_shapes: The shapes of the tensors of a training batch, as many as there were.
        evaluation_seconds: Time spent in ``evaluate``.
    """

    before: Counts | None = Counts()
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

    def here(self) -> Counts:
        """Return the counts of this part of the run, of all processes; each must call it."""
        counted = (self.tokens, self.padded_tokens, self.sentences)
        mine = torch.stack([torch.as_tensor(n, device=self.args.device) for n in counted])
        tokens, padded, sentences = self.accelerator.gather(mine[None]).sum(dim=0).tolist()
        return Counts(tokens=tokens, padded_tokens=padded, sentences=sentences)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        here = self.here()
        if self.args.should_save and self.before is not None:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            write_json(folder / COUNTS, dataclasses.asdict(self.before + here))

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
    if not results["tokens_per_second"]:  # it was stopped after its last step
        return "no step was left to train"
    rates = ", ".join(f"{results[key]:.0f} {unit}" for key, unit in units.items())
    share = results["padding_share"]
    padding = "" if share is None else f", padding {share:.1%}"
    return (
        f"{rates}{padding}, {results['train_seconds']:.0f} s of training on "
        f"{results['world_size']} process(es)\nbatches of {results['shapes']} shapes "
        f"(batch_shapes {results['batch_shapes']})"
    )
