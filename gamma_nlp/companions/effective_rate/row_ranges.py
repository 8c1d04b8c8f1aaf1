"""Runs of rows whose <w, grad> vanishes, from the sums of each row over several observations."""

from __future__ import annotations

import torch
from torch import Tensor

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
