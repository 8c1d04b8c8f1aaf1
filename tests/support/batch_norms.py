"""Inputs with a known covariance, and layers before a batch norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TINY = 1e-30  # torch wants an eps above 0

CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(3, 4, 3), (2, 3, 7, 8)),
    "strided": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 7, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, padding=2, dilation=2), (2, 4, 7, 8)),
    "depthwise": (nn.Conv1d(4, 8, 5, groups=4, padding="same"), (3, 4, 11)),
    "circular": (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (3, 2, 6)),
    "volume": (nn.Conv3d(2, 2, 2), (2, 2, 3, 4, 3)),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_covariance(covariance: Tensor, count: int = 40, seed: int = 0) -> Tensor:
    """Rows whose covariance is exactly this one."""
    x = normal(count, len(covariance), seed=seed)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / count)).T
    return white @ torch.linalg.cholesky(covariance).T


def unit(size: int, units: int = 1, gain: float = 1.0, seed: int = 1) -> tuple[nn.Linear, Any]:
    torch.manual_seed(seed)
    layer, norm = nn.Linear(size, units).double(), nn.BatchNorm1d(units, eps=TINY).double()
    nn.init.constant_(norm.weight, gain)
    return layer, norm


def put_at_optimum(layer: nn.Linear, x: Tensor, y: Tensor) -> None:
    """Least squares: its direction is the best that batch norm can take, whatever the gain."""
    x, y = x - x.mean(0), y - y.mean(0)
    layer.weight.data.copy_(torch.linalg.lstsq(x, y).solution.T * 7.3)
