"""Closed forms to compare the experiment's unit with, and its shrinkage by eigen-direction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gamma_nlp.companions.batch_norm.covariance import Moments, eigen, ridge

BINS = 12
"""How many bins, by variance, the eigen-directions are grouped in."""


def constrained(signal: Tensor, whole: Tensor, cross: Tensor, gain: float) -> tuple[float, Tensor]:
    """Solve least squares on clean inputs under v'(whole)v = gain**2; return mu and v.

    By bisection, for gains that bind from above, that is with mu >= 0.
    """
    values, vectors, kept = eigen(whole)
    white = vectors[:, kept] / values[kept].sqrt()
    a, turned = torch.linalg.eigh(white.T @ signal @ white)
    b = turned.T @ white.T @ cross
    low, high = 0.0, float(b.norm()) / gain
    for _ in range(200):
        mu = (low + high) / 2
        low, high = (mu, high) if float((b / (a + mu)).norm()) > gain else (low, mu)
    return mu, white @ turned @ (b / (a + mu))


def shrinkage(signal: Tensor, cross: Tensor, v: Tensor, predicted: Tensor) -> list[dict[str, Any]]:
    """Return how much of the clean least-squares unit is left, by the variance of its directions.

    Directions are eigenvectors of the clean covariance, in bins of equal width in the logarithm
    of their variance. Within a bin, a direction weighs as much as least squares puts output in it.
    """
    values, vectors, kept = eigen(signal)
    values, vectors = values[kept], vectors[:, kept]
    least, own, theory = vectors.T @ ridge(signal, cross, 0.0), vectors.T @ v, vectors.T @ predicted
    edges = torch.linspace(float(values[0].log()), float(values[-1].log()), BINS + 1)
    place = torch.bucketize(values.log(), edges[1:-1])
    rows = []
    for which in range(BINS):
        inside = place == which
        weight = values[inside] * least[inside]
        total = float((weight * least[inside]).sum())
        if not total:
            continue
        rows.append(
            {
                "variance": float(values[inside].log().mean().exp()),
                "measured": float((weight * own[inside]).sum()) / total,
                "predicted": float((weight * theory[inside]).sum()) / total,
            }
        )
    return rows


def covariance_of(x: Tensor) -> Tensor:
    """Return Cov(x) of rows, [d, d]."""
    moments = Moments()
    moments.add(x.unsqueeze(0))
    return moments.covariance[0]


def cross_of(x: Tensor, y: Tensor) -> Tensor:
    """Return Cov(x, y) of rows and one column, [d]."""
    return ((x - x.mean(0)).T @ (y - y.mean(0)) / len(x)).squeeze(1)
