"""Accumulate covariances over batches of rows, and solve ridge regression with them."""

from __future__ import annotations

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError

RTOL = 1e-10
"""Eigenvalues of a covariance below this fraction of the largest count as 0."""


class Moments:
    """Mean and covariance of rows that come in pieces; float64, merged without cancellation.

    Attributes:
        count: Number of rows so far.
        mean: [groups, size].
        covariance: [groups, size, size], divided by ``count`` as batch norm does.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._scatter = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Add rows [groups, n, size] in float64."""
        n = rows.shape[1]
        mean = rows.mean(1)
        centred = rows - mean.unsqueeze(1)
        scatter = centred.mT @ centred
        if not self.count:
            self.count, self.mean, self._scatter = n, mean, scatter
            return
        total = self.count + n
        step = mean - self.mean
        apart = step.unsqueeze(2) * step.unsqueeze(1) * (self.count * n / total)
        self._scatter = self._scatter + scatter + apart
        self.mean = self.mean + step * (n / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        return self._scatter / self.count


def ridge(
    covariance: Tensor,
    cross: Tensor,
    mu: Tensor | float,
    *,
    metric: str | Tensor = "data",
    rtol: float = RTOL,
) -> Tensor:
    """Return the v that minimises E(y - v'x)**2 / 2 + mu / 2 v'Mv, in closed form.

    It solves (S + mu M) v = c. Directions without variance get 0 (pseudo-inverse).

    Args:
        covariance: S = Cov(x), [..., d, d].
        cross: c = Cov(x, y) of each unit, [..., units, d], or [d] for one.
        mu: Strength, one number or [..., units].
        metric: M: ``"data"`` for S itself, then v = S**-1 c / (1 + mu), what batch norm's
            constraint amounts to [R]; ``"plain"`` for the identity, the usual ridge; or a
            covariance [d, d], such as that of the noise.
        rtol: Eigenvalues below this fraction of the largest count as 0.

    Returns:
        v in the shape of ``cross``, float64.

    Raises:
        GammaError: The shapes do not fit, or ``metric`` is none of these.

    Example:
        >>> ridge(torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([4.0, 1.0]), 1.0).tolist()
        [0.5, 0.5]
    """
    covariance, cross = covariance.double(), cross.double()
    size = cross.shape[-1]
    if covariance.shape[-2:] != (size, size):
        raise GammaError(
            f"covariance is {tuple(covariance.shape)}; expected [..., {size}, {size}], as cross "
            f"is {tuple(cross.shape)}"
        )
    c = cross.unsqueeze(0) if cross.dim() == 1 else cross
    strength = torch.as_tensor(mu, dtype=torch.float64, device=c.device).expand(c.shape[:-1])
    if isinstance(metric, Tensor):
        whole = covariance.unsqueeze(-3) + strength[..., None, None] * metric.double()
        found = torch.linalg.pinv(whole, rtol=rtol, hermitian=True) @ c.unsqueeze(-1)
        return found.squeeze(-1).view_as(cross)
    values, vectors, kept = eigen(covariance, rtol)
    along = c @ vectors
    values, kept = values.unsqueeze(-2), kept.unsqueeze(-2)
    if metric == "data":
        divisor = values * (1 + strength.unsqueeze(-1))
    elif metric == "plain":
        divisor = values + strength.unsqueeze(-1)
    else:
        raise GammaError(f"metric must be 'data', 'plain' or a matrix, got {metric!r}")
    return (torch.where(kept, along / divisor, 0.0) @ vectors.mT).view_as(cross)


def eigen(covariance: Tensor, rtol: float = RTOL) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues [..., d], ascending; eigenvectors [..., d, d]; which values are not 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return values, vectors, values > rtol * values[..., -1:].clamp(min=0)


def quadratic(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return v'Mv of each row v: [..., d, d] and [..., units, d] give [..., units]."""
    return ((rows @ matrix) * rows).sum(-1)
