"""Resampling of items: the same draw for all seeds and cells, as a product of matrices."""

from __future__ import annotations

import numpy as np

from gamma_nlp.study.statistics.contrast import Contrast, ContrastSet
from gamma_nlp.study.statistics.paired import Paired

CHUNK = 2**20
"""Weights held at once: 8 MB."""


def resampled(contrast: Contrast, resamples: int, seed: int) -> np.ndarray:
    """Return the contrast, mean over seeds and sets, under ``resamples`` draws of the items."""
    total = np.zeros(resamples)
    for number, one in enumerate(contrast.sets):
        rng = np.random.default_rng([seed, number])
        if one.statistic.linear:  # then the mean over seeds may come first, which is faster
            values = contrast.weights @ one.sums[..., 0].mean(axis=1)
            total += one.scale * _weighted(values[:, None], resamples, rng)[:, 0]
        else:
            total += _of_seeds(contrast, one, resamples, rng).mean(axis=0)
    return total / len(contrast.sets)


def _of_seeds(
    contrast: Contrast, one: ContrastSet, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the contrast of every seed under every draw, (seeds, resamples)."""
    cells, seeds, items, width = one.sums.shape
    means = _weighted(np.moveaxis(one.sums, 2, 0).reshape(items, -1), resamples, rng)
    sums = np.moveaxis(items * means.reshape(resamples, cells, seeds, width), 0, 2)
    return contrast.of_sums(one, sums)


def _weighted(table: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means of the columns of ``table`` (items, columns) under every draw of rows."""
    items = len(table)
    rows, counts = np.unique(table, axis=0, return_counts=True)
    few = 8 * len(rows) < items  # right or wrong: most items are alike, and drawn as one
    if not few:
        rows, counts = table, np.ones(items, dtype=np.int64)
    size, found = max(1, CHUNK // len(rows)), []
    for start in range(0, resamples, size):
        some = min(size, resamples - start)
        weights: np.ndarray
        if few:
            weights = rng.multinomial(items, counts / items, size=some)
        else:
            drawn = rng.integers(items, size=(some, items), dtype=np.int32)
            drawn += items * np.arange(some, dtype=np.int32)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=some * items).reshape(some, items)
        found.append(weights @ rows / items)
    return np.concatenate(found)


def p_by_items(pair: Paired, resamples: int = 1_000, seed: int = 0) -> np.ndarray:
    """Return sacrebleu's paired bootstrap p of each set and seed: items alone, (sets, seeds).

    The arithmetic is that of ``sacrebleu.significance``: the share of resamples whose absolute
    difference lies further above its mean than the difference found, plus one. Where arm and
    baseline do the same with every item it is 1, though, not the least.
    """
    contrast, rows = Contrast.of_pair(pair), []
    for number, one in enumerate(contrast.sets):
        rng = np.random.default_rng([seed, number])
        found = np.abs(_of_seeds(contrast, one, resamples, rng))
        real = np.abs(contrast.of_sums(one, one.sums.sum(axis=2)))
        above = (found - found.mean(axis=1, keepdims=True) > real[:, None]).sum(axis=1)
        equal = ~found.any(axis=1)  # none would lie above 0, so that p would be next to nothing
        rows.append(np.where(equal, 1.0, (above + 1) / (resamples + 1)))
    return np.array(rows)
