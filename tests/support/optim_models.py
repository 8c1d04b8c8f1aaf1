"""A small model with one gain per category, an offset gain, and its table made by hand."""

from __future__ import annotations

import torch
from torch import nn

from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable


class Toy(nn.Module):
    """Parameters only; the loss touches each of them with a gradient of its own."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def parameter(*shape: int, around: float = 0.0) -> nn.Parameter:
            noise = torch.randn(*shape, generator=generator) * 0.1
            return nn.Parameter((noise + around).to(dtype))

        self.embed = parameter(5, 4)
        self.inner = parameter(4, around=1.0)
        self.inner_shift = parameter(4)
        self.w = parameter(4, 4)
        self.w_bias = parameter(4)
        self.last = parameter(4)  # stored as gain - 1
        self.trunk = parameter(4, around=1.0)
        self.final = parameter(4, around=1.0)
        self.mix = parameter(4)

    def loss(self, step: int = 0) -> torch.Tensor:
        return sum(
            ((p.float() - 0.3 * (i + step % 3)) ** 2).mean()
            for i, p in enumerate(self.parameters())
        )


def gain(name: str, category: Category | None, *, kind: str = "layer_norm", offset: float = 0.0):
    return Gain(
        name=name,
        category=category,
        kind=kind,
        offset=offset,
        source="table",
        reason="by hand",
        dtype="float32",
        numel=4,
    )


def toy_table(*, offset: float = 1.0) -> GainTable:
    return GainTable(
        gains=(
            gain("inner", Category.BRANCH_INNER),
            gain("last", Category.BRANCH_LAST, kind="rms_norm", offset=offset),
            gain("trunk", Category.SHORTCUT),
            gain("final", Category.HEAD),
        ),
        roles={
            "embed": Role.EMBEDDING,
            "inner_shift": Role.SHIFT,
            "w": Role.WEIGHT,
            "w_bias": Role.BIAS,
            "mix": Role.OTHER,
        },
    )


def train(model: Toy, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.zero_grad()
        model.loss(step).backward()
        optimizer.step()


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    for name, value in values(a).items():
        assert torch.equal(value, b.get_parameter(name)), name


def zero_gradients(model: nn.Module) -> None:
    """Zero, not missing: an optimizer skips a parameter that has no gradient."""
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
