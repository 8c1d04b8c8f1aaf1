"""Find sums that vanish: over runs of rows in a tensor, and over groups of tensors.

A tensor, a run of its rows or a group of tensors can be rescaled by a common factor where the
derivative of every output by the logarithm of that factor is zero. That derivative is a sum of
w * grad, over the run of rows (:func:`row_ranges`) or over the tensors (:func:`null_groups`).
"""

from __future__ import annotations

import torch
from torch import Tensor

Range = tuple[int, int]
"""Half-open: the first row, and the one after the last."""

_VANISHED = 1e-7
"""A run's sum vanishes below this fraction of the sum of its rows' sizes."""
_SILENT = 1e-13
"""A row without size has less than this fraction of the largest row's."""
_TOLERANCE = 1e-6
"""Combinations of columns of length 1 that are shorter than this are zero."""


def row_ranges(sums: Tensor, sizes: Tensor) -> list[Range]:
    """Return the shortest runs of rows that sum to zero in every observation, none overlapping.

    Rows without size (tokens that did not occur, units that never fired) tell nothing. If every
    other row is a run by itself, they count as such runs too; else they start no run. A single
    run of all rows is the whole tensor and is not returned.

    Args:
        sums: [observations, rows], the sum of w * grad over each row.
        sizes: In the same shape, the sums of magnitudes.

    Example:
        >>> sums = torch.tensor([[1.0, -1.0, 5.0, 2.0, -2.0], [3.0, -3.0, 1.0, 1.0, -1.0]])
        >>> row_ranges(sums.double(), sums.abs().double())
        [(0, 2), (3, 5)]
    """
    sized = (sizes > _SILENT * sizes.amax(dim=1, keepdim=True)).any(dim=0)
    rows = sized.nonzero().flatten()
    sums, sizes = sums[:, rows], sizes[:, rows]
    runs = [
        (start, stop)
        for start, stop in _between_equals(_totals(sums, sizes))
        if bool(_vanishes(sums[:, start:stop], sizes[:, start:stop]))
    ]
    taken = _apart(runs)
    if taken == [(0, len(rows))]:
        return []
    if len(taken) == len(rows) > 0:
        return [(row, row + 1) for row in range(len(sized))]
    return [(int(rows[start]), int(rows[stop - 1]) + 1) for start, stop in taken]


def _totals(sums: Tensor, sizes: Tensor) -> list[tuple[int, ...]]:
    """Return the running total before each row and after the last; equal totals, equal numbers."""
    totals = torch.nn.functional.pad(sums.cumsum(dim=1), (1, 0))
    order = totals.argsort(dim=1)
    steps = totals.gather(1, order).diff(dim=1) > 0.01 * _VANISHED * sizes.sum(dim=1, keepdim=True)
    ranks = torch.nn.functional.pad(steps.long().cumsum(dim=1), (1, 0))
    return [tuple(one) for one in torch.zeros_like(order).scatter(1, order, ranks).T.tolist()]


def _between_equals(totals: list[tuple[int, ...]]) -> list[Range]:
    last: dict[tuple[int, ...], int] = {}
    runs = []
    for place, total in enumerate(totals):
        if total in last:
            runs.append((last[total], place))
        last[total] = place
    return runs


def _vanishes(sums: Tensor, sizes: Tensor) -> Tensor:
    return (sums.sum(dim=1).abs() <= _VANISHED * sizes.sum(dim=1)).all()


def _apart(runs: list[Range]) -> list[Range]:
    """Keep short runs; drop longer ones that contain or cross them."""
    free: list[Range] = []
    covered: set[int] = set()
    for start, stop in sorted(runs, key=lambda run: run[1] - run[0]):
        if covered.isdisjoint(range(start, stop)):
            covered.update(range(start, stop))
            free.append((start, stop))
    return sorted(free)


def null_groups(slopes: Tensor) -> list[tuple[int, ...]]:
    """Return minimal sets of columns that sum to zero, each a sorted tuple of indices.

    Not every such set: columns that can replace one another appear in only one of their sets.

    Args:
        slopes: [observations, tensors], more observations than tensors, no column zero.

    Example:
        >>> a, b = torch.tensor([1.0, 2.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 3.0])
        >>> null_groups(torch.stack([a, b, -a], dim=1).double())
        [(0, 2)]
    """
    # Column t is the derivative of many outputs by the logarithm of the scale of tensor t. A group
    # is a vector of zeros and ones in the null space, with as few ones as possible; null vectors
    # with other or negative entries are other symmetries (twice the query, half the key).
    if slopes.shape[1] < 2:
        return []
    lengths = slopes.norm(dim=0)
    columns = slopes / lengths
    _, values, right = torch.linalg.svd(columns, full_matrices=True)
    rank = int((values > _TOLERANCE * values[0]).sum())
    within = right[rank:].norm(dim=0) > _TOLERANCE
    candidates = [i for i, found in enumerate(within.tolist()) if found]
    groups: list[tuple[int, ...]] = []
    for first in candidates:
        if any(first in group for group in groups):
            continue
        others = [i for i in candidates if i != first]
        weights = nonnegative(columns[:, others], -columns[:, first])
        if (columns[:, others] @ weights + columns[:, first]).norm() > _TOLERANCE:
            continue
        scales = weights / lengths[others] * lengths[first]
        taken = weights > _TOLERANCE
        if bool(taken.any()) and bool(((scales[taken] - 1).abs() < 1e-3).all()):
            members = [i for i, one in zip(others, taken.tolist(), strict=True) if one]
            groups.append(tuple(sorted([first, *members])))
    return groups


def nonnegative(matrix: Tensor, target: Tensor) -> Tensor:
    """Return the x >= 0 that minimises ``|matrix x - target|``, for columns of length about 1.

    The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23).
    The columns it uses are linearly independent, so the support of x is minimal.
    """
    size = matrix.shape[1]
    x = torch.zeros(size, dtype=matrix.dtype, device=matrix.device)
    used = torch.zeros(size, dtype=torch.bool, device=matrix.device)
    for _ in range(3 * size):
        pull = matrix.T @ (target - matrix @ x)
        pull[used] = 0
        if size == 0 or float(pull.max()) <= _TOLERANCE**2:
            break
        used[int(pull.argmax())] = True
        while True:
            optimum = torch.zeros_like(x)
            optimum[used] = torch.linalg.lstsq(matrix[:, used], target, driver="gelsd").solution
            bad = used & (optimum <= 0)
            if not bool(bad.any()):
                break
            # Go toward the optimum until a weight reaches zero; that one drops out.
            step = (x[bad] / (x[bad] - optimum[bad])).min()
            x = x + step * (optimum - x)
            used &= x > 1e-12
            x[~used] = 0
        x = optimum
    return x
