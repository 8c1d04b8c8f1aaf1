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
