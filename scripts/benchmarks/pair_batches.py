"""What batches of pairs hold: rows, widths, tokens, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gamma_nlp.hf.batches.shapes import Shape


class Batch(NamedTuple):
    """What a batch holds: rows, widths, and tokens without padding."""

    pairs: int
    source_width: int
    target_width: int
    source: int
    target: int

    @property
    def tokens(self) -> int:
        """Tokens as a budget counts them: those of the wider side, with padding."""
        return self.pairs * max(self.source_width, self.target_width)


class Recorder:
    """A collator that records what its batches hold."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.batches = collate, []

    def __call__(self, pairs: Sequence[dict[str, list[int]]]) -> Any:
        made = self.collate(pairs)
        source, target = (sum(len(one[name]) for one in pairs) for name in ("input_ids", "labels"))
        widths = (made[name].shape[1] for name in ("input_ids", "labels"))
        self.batches.append(Batch(len(made["labels"]), *widths, source, target))
        return made

    def shaped(self, shapes: Sequence[Shape]) -> Recorder:
        self.collate = self.collate.shaped(shapes)
        return self

    def target_tokens(self, start: int, stop: int) -> int:
        """Return the target tokens of these steps."""
        # The loader reads ahead; without workers it makes batches in the order of the steps.
        return sum(batch.target for batch in self.batches[start:stop])


def sentences_like(lengths: np.ndarray, tokens: float) -> int:
    """Return how many sentences a random batch needs to have ``tokens`` tokens on average.

    Tokens are counted as a token budget counts them: sentences times the widest sequence of either
    side. So both trainers compute equally many tokens per step, padding included, and need the same
    memory; they differ in how many of the tokens are real.
    """
    drawn = lengths[np.random.default_rng(0).permutation(len(lengths))]

    def mean(size: int) -> float:
        batches = drawn[: len(drawn) // size * size].reshape(-1, size, 2)
        return float(size * batches.max(axis=(1, 2)).mean())

    size = 1
    while size < len(drawn) and mean(size + 1) <= tokens:
        size += 1
    if size < len(drawn) and mean(size + 1) - tokens < tokens - mean(size):
        size += 1
    return size


def padding(batches: Sequence[Batch]) -> tuple[float, float]:
    """Return the share of padding among the tokens of source and target."""
    return (
        1 - sum(b.source for b in batches) / sum(b.pairs * b.source_width for b in batches),
        1 - sum(b.target for b in batches) / sum(b.pairs * b.target_width for b in batches),
    )
