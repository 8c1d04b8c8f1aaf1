"""Groups of tensors that can only be rescaled together, from how outputs react to each alone.

Column t of ``slopes`` is the derivative of many outputs by the logarithm of the scale of tensor t.
A common factor for a group leaves all outputs as they are where its columns sum to zero. So a
joint group is a vector of zeros and ones in the null space, with as few ones as possible.
Vectors with negative entries are other symmetries (twice the query, half the key).
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-6


def null_groups(slopes: Tensor) -> list[tuple[int, ...]]:
    """Return minimal sets of columns that sum to zero, each a sorted tuple of indices.

    Not every such set: columns that can replace one another appear in one of their sets.

    Args:
        slopes: [observations, tensors], more observations than tensors, no column zero.
    """
    if slopes.shape[1] < 2:
        return []
    lengths = slopes.norm(dim=0)
    columns = slopes / lengths
    _, values, right = torch.linalg.svd(columns, full_matrices=True)
    rank = int((values > TOLERANCE * values[0]).sum())
    within = right[rank:].norm(dim=0) > TOLERANCE
    candidates = [i for i, found in enumerate(within.tolist()) if found]
    groups: list[tuple[int, ...]] = []
    for first in candidates:
        if any(first in group for group in groups):
            continue
        others = [i for i in candidates if i != first]
        weights = nonnegative(columns[:, others], -columns[:, first])
        if (columns[:, others] @ weights + columns[:, first]).norm() > TOLERANCE:
            continue
        scales = weights / lengths[others] * lengths[first]
        taken = weights > TOLERANCE
        if bool(taken.any()) and bool(((scales[taken] - 1).abs() < 1e-3).all()):
            members = [i for i, one in zip(others, taken.tolist(), strict=True) if one]
            groups.append(tuple(sorted([first, *members])))
    return groups


def nonnegative(matrix: Tensor, target: Tensor) -> Tensor:
    """The x >= 0 that minimises ``|matrix x - target|``, columns of ``matrix`` of length about 1.

    The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23).
    Its columns in use are linearly independent, so its support is minimal.
    """
    size = matrix.shape[1]
    x = torch.zeros(size, dtype=matrix.dtype, device=matrix.device)
    used = torch.zeros(size, dtype=torch.bool, device=matrix.device)
    for _ in range(3 * size):
        pull = matrix.T @ (target - matrix @ x)
        pull[used] = 0
        if size == 0 or float(pull.max()) <= TOLERANCE**2:
            break
        used[int(pull.argmax())] = True
        while True:
            wanted = torch.zeros_like(x)
            wanted[used] = torch.linalg.lstsq(matrix[:, used], target, driver="gelsd").solution
            bad = used & (wanted <= 0)
            if not bool(bad.any()):
                break
            # As far toward the wanted point as all stay positive; who reaches zero drops out.
            step = (x[bad] / (x[bad] - wanted[bad])).min()
            x = x + step * (wanted - x)
            used &= x > 1e-12
            x[~used] = 0
        x = wanted
    return x


Range = tuple[int, int]
"""Half-open: the first row, and the one after the last."""

VANISHED = 1e-7
"""A run's sum vanishes below this part of the sum of its rows' sizes."""

SILENT = 1e-13


def row_ranges(sums: Tensor, sizes: Tensor) -> list[Range]:
    """Return the shortest runs of rows that sum to zero in every observation, none overlapping.

    Rows without size (tokens that did not occur, units that never fired) say nothing. Where all
    others are runs of one row they are taken for such runs too, else they are in no run of
    their own. One run of all rows is the whole, and not returned.

    Args:
        sums: [observations, rows], the sum of w * grad over each row.
        sizes: Of the same shape, the sum of their magnitudes.

    Example:
        >>> sums = torch.tensor([[1.0, -1.0, 5.0, 2.0, -2.0], [3.0, -3.0, 1.0, 1.0, -1.0]])
        >>> row_ranges(sums.double(), sums.abs().double())
        [(0, 2), (3, 5)]
    """
    loud = (sizes > SILENT * sizes.amax(dim=1, keepdim=True)).any(dim=0)
    rows = loud.nonzero().flatten()
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
        return [(row, row + 1) for row in range(len(loud))]
    return [(int(rows[start]), int(rows[stop - 1]) + 1) for start, stop in taken]


def _totals(sums: Tensor, sizes: Tensor) -> list[tuple[int, ...]]:
    """Running totals before each row and after the last, equal ones as equal numbers."""
    totals = torch.nn.functional.pad(sums.cumsum(dim=1), (1, 0))
    order = totals.argsort(dim=1)
    steps = totals.gather(1, order).diff(dim=1) > 0.01 * VANISHED * sizes.sum(dim=1, keepdim=True)
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
    return (sums.sum(dim=1).abs() <= VANISHED * sizes.sum(dim=1)).all()


def _apart(runs: list[Range]) -> list[Range]:
    """Short runs first; a longer one that holds or crosses them is no unit."""
    free: list[Range] = []
    covered: set[int] = set()
    for start, stop in sorted(runs, key=lambda run: run[1] - run[0]):
        if covered.isdisjoint(range(start, stop)):
            covered.update(range(start, stop))
            free.append((start, stop))
    return sorted(free)
