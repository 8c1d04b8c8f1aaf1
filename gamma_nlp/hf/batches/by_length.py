"""Batch examples of similar length, padded to the longest of the batch.

The Trainer's own ``group_by_length`` pads as little, but its batches run from long to short within
each window, and its order depends on the global random state: it differs after a resume, and
between processes whose dropout draws different numbers, which then miss examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from gamma_nlp.hf.batches.shapes import Shape, fitting_shape, narrowest, padded


class Encoded(Dataset[dict[str, Any]]):
    """Tokenised examples in flat arrays: a few bytes per token, so whole corpora fit in memory.

    Args:
        columns: One list of token values per example for each model input, ``input_ids`` among
            them.
        labels: One class index or score per example.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[int | float]
    ) -> None:
        self.lengths = np.fromiter(map(len, columns["input_ids"]), dtype=np.int64)
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        self.columns = {
            name: np.fromiter((value for row in rows for value in row), dtype=np.int32)
            for name, rows in columns.items()
        }
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, stop = self.offsets[index], self.offsets[index + 1]
        example: dict[str, Any] = {
            name: values[start:stop].tolist() for name, values in self.columns.items()
        }
        example["labels"] = self.labels[index]
        return example


class BucketSampler(Sampler[int]):
    """Shuffled training order in which every batch holds examples of similar length.

    Within windows of 50 batches, examples are sorted by length and cut into batches; then all
    batches are shuffled. The order follows from seed and epoch alone, so all processes agree, and
    a resumed run sees what the interrupted one would have seen.

    With ``shapes`` a batch holds examples of one width of theirs instead, drawn from all that have
    it; a few batches hold two widths, so no example is left over. All micro-batches of a step then
    have the same shape, but in those few.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples per optimizer step, over all processes.
        seed: Decides the order, together with the epoch.
        shapes: From :func:`~gamma_nlp.hf.batches.shapes.length_shapes`; give the collator the same.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.shapes = shapes
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        batches = self._like_lengths(rng) if self.shapes is None else self._alike(rng, self.shapes)
        # A batch that is not full must come last, or every later one would straddle two.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        for i in rng.permutation(len(full)):
            yield from full[i].tolist()
        for batch in rest:
            yield from batch.tolist()

    def _like_lengths(self, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(len(self.lengths))
        window = self.batch_size * max(1, min(50, len(order) // (4 * self.batch_size)))
        batches = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        return batches

    def _alike(self, rng: np.random.Generator, shapes: Sequence[Shape]) -> list[np.ndarray]:
        widths = np.array([shape[1:] for shape in shapes])
        order = rng.permutation(len(self.lengths))
        order = order[np.argsort(narrowest(widths, self.lengths[order, None]), kind="stable")]
        short = len(order) % self.batch_size
        # What fills no batch is taken from anywhere, or it would always be the longest ones.
        start = self.batch_size * int(rng.integers(len(order) // self.batch_size + 1))
        there = slice(start, start + short)
        return [*np.delete(order, there).reshape(-1, self.batch_size), order[there]]


class SortedSampler(Sampler[int]):
    """Evaluation order, longest first: the least padding possible."""

    def __init__(self, lengths: Sequence[int] | np.ndarray) -> None:
        self.order = np.argsort(-np.asarray(lengths), kind="stable")

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())


class Padder:
    """Collate examples into tensors of shape (batch, longest).

    Five times as fast as transformers' ``DataCollatorWithPadding``, with the same result.

    Args:
        fill: The padding value of each model input.
        length: Pad to this fixed length instead of the batch's longest.
        multiple: Round the length up to a multiple of this (8 suits tensor cores).
        shapes: Pad each batch to the first of these that holds it. A row without an example has
            the label -100, which no loss counts, and one token, so that its attention is a number.
    """

    def __init__(
        self,
        fill: Mapping[str, int],
        *,
        length: int | None = None,
        multiple: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        self.fill = dict(fill)
        self.length = length
        self.multiple = multiple
        self.shapes = shapes

    def shaped(self, shapes: Sequence[Shape]) -> Padder:
        """Return a collator of examples with classes that pads to ``shapes``."""
        return Padder(self.fill, shapes=shapes)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        rows, width = self._shape(examples)
        batch = {
            name: padded([example[name] for example in examples], (rows, width), value)
            for name, value in self.fill.items()
        }
        mask = [np.ones(len(example["input_ids"]), np.int64) for example in examples]
        batch["attention_mask"] = padded(mask, (rows, width), 0)
        empty = rows - len(examples)
        batch["labels"] = torch.tensor([*(one["labels"] for one in examples), *[-100] * empty])
        if empty:
            batch["attention_mask"][-empty:, 0] = 1
            batch["input_ids"][-empty:, 0] = batch["input_ids"][0, 0]
        return batch

    def _shape(self, examples: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        longest = max(len(example["input_ids"]) for example in examples)
        if self.shapes is not None:
            rows, width = fitting_shape(self.shapes, len(examples), longest)
            return rows, width
        return len(examples), self.length or -(-longest // self.multiple) * self.multiple
