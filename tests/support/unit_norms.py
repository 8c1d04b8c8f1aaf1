"""A model whose tensors have units of every kind, trained with their norms held."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.effective_rate.report import Invariance, ScaleInvariance

HELD = ["whole", "rows", "columns", "heads"]


class Sheet(nn.Module):
    """Tensors of all kinds of units, and one whose scale matters."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in [*HELD, "free", "part", "one", "other"]:
            setattr(self, name, nn.Parameter(torch.randn(12, 6, generator=generator)))

    def loss(self) -> Tensor:
        return torch.stack([(p - 1).square().sum() for p in self.parameters()]).sum()


def blocks(size: int, count: int) -> tuple[tuple[int, int], ...]:
    return tuple((i * size, (i + 1) * size) for i in range(count))


REPORT = ScaleInvariance(
    model="Sheet",
    alone=(
        Invariance(names=("whole",), whole=True),
        Invariance(names=("rows",), whole=True, units=blocks(1, 12)),
        Invariance(names=("columns",), whole=True, dim=1, units=blocks(1, 6)),
        Invariance(names=("heads",), whole=True, units=blocks(4, 3)),
        Invariance(names=("part",), whole=False, units=blocks(4, 2)),
    ),
    joint=(Invariance(names=("one", "other"), whole=True),),
    no_gradient=(),
    sensitive=("free", "one", "other"),
)


def adamw(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.named_parameters(), lr=0.1, weight_decay=0.1, **kwargs)


def norms(model: Any) -> dict[str, Tensor]:
    return {
        "whole": model.whole.detach().norm(),
        "rows": model.rows.detach().norm(dim=1),
        "columns": model.columns.detach().norm(dim=0),
        "heads": model.heads.detach().unflatten(0, (3, 4)).flatten(1).norm(dim=1),
    }


def train(model: Any, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
