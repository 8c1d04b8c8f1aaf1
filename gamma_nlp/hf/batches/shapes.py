"""Choose few shapes for all batches: which widths, who goes where, how many to a batch.

What is prepared once for each shape of a batch pays off only where shapes are few. The widths are
chosen from the lengths, greedily: begin with the one that holds everything, then add again and
again the one that saves the most positions, when each pair goes to the narrowest that holds it.

A pair's lengths alone tell its shape, so whoever sees a batch knows what to pad it to: the first
of the shapes, from narrow to wide, that holds the longest of each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.budget import Lengths, TokenBudget

Shape = tuple[int, ...]
"""Sentences and width, or pairs and the widths of source and target."""

MOST_SHAPES = 32

_ENOUGH = 0.05
"""The padding from which on another shape must save more than its own last batch costs."""

_MOST_CANDIDATES = 64
"""Widths of one side that are tried; of more, the same greedy choice leaves these."""


class Padding(NamedTuple):
    """The share of padding among the positions of an epoch, rows without a pair included."""

    source: float
    target: float
    together: float


def choose_widths(lengths: np.ndarray, most: int, *, least: float = 0.0) -> np.ndarray:
    """Return at most ``most`` widths that hold all ``lengths`` with little padding.

    Args:
        lengths: Of shape (examples, sides).
        most: How many; at least 1.
        least: Once padding is below 5 %, a further width must save more positions than this.

    Returns:
        Of shape (widths, sides), from narrow to wide by all sides together.
    """
    sides = [_candidates(column, lengths.shape[1]) for column in lengths.T]
    cells = tuple(
        np.searchsorted(side, column) for side, column in zip(sides, lengths.T, strict=True)
    )
    total = reduce(np.add.outer, sides)
    counts = np.zeros(total.shape, np.int64)
    np.add.at(counts, cells, 1)
    cost = np.full(total.shape, total.max())  # of the narrowest chosen width that holds a cell
    chosen = [tuple(size - 1 for size in total.shape)]
    while len(chosen) < most:
        saved = positions_saved(counts, cost, total)
        best = tuple(map(int, np.unravel_index(int(saved.argmax()), saved.shape)))
        padding = 1 - lengths.sum() / (counts * cost).sum()
        if saved[best] <= (least if padding < _ENOUGH else 0):
            break
        held = tuple(slice(index + 1) for index in best)
        cost[held] = np.minimum(cost[held], total[best])
        chosen.append(best)
    widths = ([int(side[i]) for side, i in zip(sides, one, strict=True)] for one in chosen)
    return np.array(sorted(widths, key=_from_narrow_to_wide))


def _from_narrow_to_wide(widths: Sequence[int]) -> tuple[int, ...]:
    return sum(widths), *widths


def _candidates(column: np.ndarray, sides: int) -> np.ndarray:
    found = np.unique(column)
    if sides == 1 or len(found) <= _MOST_CANDIDATES:
        return found
    return choose_widths(column[:, None], _MOST_CANDIDATES)[:, 0]


def positions_saved(counts: np.ndarray, cost: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return how many positions each candidate would save.

    Args:
        counts: Examples of each cell; cells are indexed by the candidate widths of each side.
        cost: Positions that an example of each cell takes so far.
        total: Positions that it would take in the candidate of each cell, which holds all cells
            below it.
    """
    saved = np.zeros(total.shape, np.int64)
    for positions in np.unique(total[total < cost.max()]):
        sums = counts * np.maximum(cost - positions, 0)
        for axis in range(sums.ndim):
            sums = sums.cumsum(axis)
        here = total == positions
        saved[here] = sums[here]
    return saved


def narrowest(widths: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return for each of ``lengths`` the index of the first of ``widths`` that holds it.

    Args:
        widths: Of shape (widths, sides); the last one holds everything.
        lengths: Of shape (examples, sides).
    """
    found = np.full(len(lengths), len(widths) - 1)
    for index in range(len(widths) - 2, -1, -1):
        found[(lengths <= widths[index]).all(axis=1)] = index
    return found


def fewest_rows(count: int, most: int, multiple_of: int = 1) -> tuple[int, int]:
    """Return how many batches ``count`` examples need, and the rows of each.

    The examples are spread evenly over the fewest batches, so nearly no row stays empty.

    Args:
        count: Examples.
        most: The most rows of a batch.
        multiple_of: Make rows a multiple of this, if that many fit.
    """
    if most >= multiple_of:
        most -= most % multiple_of
    else:
        multiple_of = 1
    batches = -(-count // most)
    return batches, -(-count // (batches * multiple_of)) * multiple_of


def cut_to_few(widths: np.ndarray, budget: TokenBudget) -> tuple[np.ndarray, ...]:
    """Cut pairs into batches of at most ``budget.max_shapes`` shapes.

    Args:
        widths: Of shape (pairs, 2), each within the budget.
        budget: Says what counts, and how many shapes there may be.

    Returns:
        Each pair's sort key; where batches begin and end among sorted pairs; the shape of each
        batch, (batches, 3), from narrow to wide. Pairs of equal key fit each other's batches.
    """
    # The last batch of a shape is half empty on average, or all of them are a little smaller.
    chosen = choose_widths(widths, budget.max_shapes or 1, least=budget.max_tokens)
    keys = narrowest(chosen, widths)
    cuts, shapes, end = [np.zeros(1, np.int64)], [], 0
    for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
        width = chosen[key]
        counted = width[1] if budget.sides == "target" else width.max()
        most = min(budget.max_tokens // int(counted), budget.max_sentences or len(widths))
        batches, rows = fewest_rows(int(count), most, budget.multiple_of)
        cuts.append(end + count * np.arange(1, batches + 1) // batches)
        shapes += [(rows, *width)] * batches
        end += int(count)
    return keys, np.concatenate(cuts), np.array(shapes)


def alike_by_step(
    turns: np.ndarray, shapes: np.ndarray, together: int, rng: np.random.Generator
) -> np.ndarray:
    """Put batches of one shape side by side, ``together`` to a step, and shuffle the steps.

    What is left of each shape shares steps; batches that fill no step come last.

    Args:
        turns: Batches in random order.
        shapes: Of each batch, by its number.
        together: Processes.
        rng: Shuffles the steps.
    """
    kinds = np.unique(shapes[turns], axis=0, return_inverse=True)[1].reshape(-1)
    by_kind = [turns[kinds == kind] for kind in range(kinds.max() + 1)]
    full = [len(one) // together * together for one in by_kind]
    rest = np.concatenate([one[end:] for one, end in zip(by_kind, full, strict=True)])
    short = len(rest) % together
    parts = [one[:end] for one, end in zip(by_kind, full, strict=True)]
    steps = np.concatenate([*parts, rest[: len(rest) - short]]).reshape(-1, together)
    return np.concatenate([steps[rng.permutation(len(steps))].ravel(), rest[len(rest) - short :]])


def length_shapes(lengths: Lengths, sentences: int, most: int = MOST_SHAPES) -> tuple[Shape, ...]:
    """Return shapes for batches of ``sentences`` that hold sentences of like length."""
    widths = choose_widths(np.asarray(lengths, np.int64)[:, None], most)
    return tuple((sentences, int(width)) for (width,) in widths)


def fitting_shape(shapes: Sequence[Shape], rows: int, *longest: int) -> Shape:
    """Return the first of ``shapes``, from narrow to wide, that holds a batch.

    Args:
        shapes: As a sampler gives them.
        rows: Sentences or pairs of the batch.
        longest: Its longest sequence, of each side.

    Raises:
        GammaError: None holds it: the batch was cut by something else than these shapes.
    """
    for shape in shapes:
        if all(length <= width for length, width in zip(longest, shape[1:], strict=True)):
            if rows <= shape[0]:
                return shape
            break
    raise GammaError(
        f"a batch of {rows} with {' and '.join(map(str, longest))} tokens fits none of the shapes; "
        "give the collator the shapes of the sampler that cuts its batches"
    )


def padded(rows: Sequence[Any], shape: tuple[int, int], fill: int) -> torch.Tensor:
    """Return whole numbers of ``shape`` that begin with ``rows``; all the rest is ``fill``."""
    made = np.full(shape, fill, dtype=np.int64)
    for line, row in zip(made, rows, strict=False):
        line[: len(row)] = row
    return torch.from_numpy(made)
