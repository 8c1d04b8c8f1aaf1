"""A small network, its training, and optimizers for the tests of strong regularisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp.companions.strong.regularizer import StrongRegularizer

NAMES = ["0.weight", "2.weight", "4.weight"]


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).to(dtype)


def backward(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 12, generator=generator)
    y = (x[:, :3] + 0.5 * x[:, 3:6]).argmax(1)
    dtype = next(model.parameters()).dtype
    model.zero_grad()
    wide = torch.promote_types(dtype, torch.float32)
    nn.functional.cross_entropy(model(x.to(dtype)).to(wide), y).backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        backward(model, step)
        optimizer.step()


def sgd(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.named_parameters(), **{"lr": 0.1, "momentum": 0.9, **kwargs})


def adamw(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    settings = {"lr": 0.01, "weight_decay": 0.0, **kwargs}
    return torch.optim.AdamW(model.named_parameters(), **settings)


def weights(model: nn.Module) -> list[Tensor]:
    return [model.get_parameter(name) for name in NAMES]


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def zeros(model: nn.Module) -> int:
    return sum(int((w == 0).sum()) for w in weights(model))


def train_with(model: nn.Module, steps: int, make: Any = sgd, **kwargs: Any) -> StrongRegularizer:
    optimizer = make(model)
    strong = StrongRegularizer(optimizer, names=NAMES, **kwargs)
    train(model, optimizer, steps)
    return strong
