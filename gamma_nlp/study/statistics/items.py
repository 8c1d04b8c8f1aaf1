"""Resampling of items: the same draw for all seeds and both arms, as a product of matrices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gamma_nlp.study.statistics.paired import Paired, PairedSet

CHUNK = 2**20
"""Draws of an item held at once: 8 MB of weights."""


def resampled(pair: Paired, resamples: int, seed: int) -> np.ndarray:
    """Return the difference, mean over seeds and sets, under ``resamples`` draws of the items."""
    total = np.zeros(resamples)
    for number, items in enumerate(pair.sets):
        total += _of_set(items, resamples, np.random.default_rng([seed, number])).mean(axis=1)
    return total / len(pair.sets)


def _of_set(items: PairedSet, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the difference of every seed under every draw, (resamples, seeds)."""
    seeds, count, width = items.baseline_sums.shape
    both = np.stack([items.baseline_sums, items.arm_sums])  # (2, seeds, items, k)
    table = np.moveaxis(both, 2, 0).reshape(count, -1)
    found = []
    for weights in draws(count, resamples, rng):
        sums = (weights @ table).reshape(len(weights), 2, seeds, width)
        found.append(items.difference(sums[:, 0], sums[:, 1]))
    return np.concatenate(found)


def draws(count: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each of ``count`` items is drawn, (some, count), ``resamples`` in all."""
    size = max(1, CHUNK // count)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = rng.integers(count, size=(rows, count), dtype=np.int32)
        drawn += count * np.arange(rows, dtype=np.int32)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * count)
        yield weights.reshape(rows, count).astype(np.float64)


def p_by_items(items: PairedSet, resamples: int = 1_000, seed: int = 0) -> np.ndarray:
    """Return sacrebleu's paired bootstrap p of each seed: items alone, the seed as it is.

    The arithmetic is that of ``sacrebleu.significance``: the share of resamples whose absolute
    difference lies further above its mean than the difference found, plus one.
    """
    found = np.abs(_of_set(items, resamples, np.random.default_rng(seed)))
    real = np.abs(items.difference(items.baseline_sums.sum(axis=1), items.arm_sums.sum(axis=1)))
    above = (found - found.mean(axis=0) > real).sum(axis=0)
    return np.asarray((above + 1) / (resamples + 1))
