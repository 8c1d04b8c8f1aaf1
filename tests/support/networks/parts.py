"""Modules of random networks: their common class, weights, activations and attention weights.

Nothing can be told from names here: modules, parameters and classes get random or misleading ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 2
MISLEADING = ("norm", "ln", "gamma", "beta", "weight", "bias", "head", "embed", "skip", "final")


class Part(nn.Module):
    """A module whose forward pass is a plain function of its members, which it calls by number."""

    def __init__(
        self,
        names: random.Random,
        run: Callable[..., Any],
        members: Iterable[Any],
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.run, self.options = run, options
        self.order: list[str] = []
        for member in members:
            name = names.choice(MISLEADING) if names.random() < 0.3 else syllables(names)
            while hasattr(self, name):
                name = syllables(names)
            self.order.append(name)
            setattr(self, name, member)

    def __getitem__(self, index: int) -> Any:
        return getattr(self, self.order[index])

    def __len__(self) -> int:
        return len(self.order)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, *kwargs.values())


def syllables(names: random.Random) -> str:
    return "".join(names.choice("bdfgklpstvz") + names.choice("aeiou") for _ in range(3))


def part(names: random.Random, run: Callable[..., Any], *members: Any, **options: Any) -> Part:
    """A part of a class of its own, with a random name."""
    kind = type(syllables(names).title(), (Part,), {})
    return kind(names, run, members, options)


def in_turn(m: Part, x: Tensor, env: dict[str, Any]) -> Tensor:
    """Run the members one after the other."""
    for i in range(len(m)):
        x = m[i](x, env)
    return x


def channels_first(m: Part, x: Tensor) -> Tensor:
    return m[0](x.transpose(1, 2)).transpose(1, 2)


# Weights ----------------------------------------------------------------------------------------


def _low_rank(m: Part, x: Tensor) -> Tensor:
    return m[0](x) + 2.0 * (x @ m[1] @ m[2])


def _dequantised(m: Part, x: Tensor) -> Tensor:
    return x @ (m[0].to(x.dtype) * m[1])


def _reduced(m: Part, x: Tensor) -> Tensor:
    shape = x.shape
    return torch.addmm(m[1], x.reshape(-1, shape[-1]), m[0]).view(*shape[:-1], -1)


def _convolved(m: Part, x: Tensor) -> Tensor:
    return m[0](x.flatten(0, -2).unsqueeze(-1)).squeeze(-1).view(*x.shape[:-1], -1)


WEIGHTS = ("nn.Linear", "matmul", "einsum", "addmm", "1x1 convolution", "int8", "low rank")


def make_weight(kind: str, dim: int, out: int, names: random.Random) -> nn.Module:
    """A map of the last dimension from ``dim`` to ``out``."""
    matrix = nn.Parameter(torch.randn(dim, out) / math.sqrt(dim))
    if kind == "nn.Linear":
        return nn.Linear(dim, out)
    if kind == "matmul":
        return part(names, lambda m, x: x @ m[0], matrix)
    if kind == "einsum":
        return part(names, lambda m, x: torch.einsum("...d,de->...e", x, m[0]), matrix)
    if kind == "addmm":
        return part(names, _reduced, matrix, nn.Parameter(torch.randn(out) / 4))
    if kind == "1x1 convolution":
        return part(names, _convolved, nn.Conv1d(dim, out, 1))
    if kind == "int8":
        packed = torch.randint(-100, 100, (dim, out), dtype=torch.int8)
        scale = nn.Parameter(torch.rand(out) / (60 * math.sqrt(dim)) + 1e-3)
        return part(names, _dequantised, nn.Parameter(packed, requires_grad=False), scale)
    assert kind == "low rank"
    down, up = torch.randn(dim, 2) / math.sqrt(dim), torch.randn(2, out) / 2
    return part(names, _low_rank, nn.Linear(dim, out), nn.Parameter(down), nn.Parameter(up))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "leaky": lambda x: torch.maximum(x, 0.1 * x),
}


# Attention --------------------------------------------------------------------------------------


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions, with half of each head as the other half's partner."""
    angle = torch.arange(x.shape[-2])[:, None] / torch.arange(1, x.shape[-1] + 1)
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()


def scores(
    query: Tensor, key: Tensor, env: dict[str, Any], how: frozenset[str], hidden: Tensor | None
) -> Tensor:
    """Attention weights, with the biases and masks that ``how`` asks for."""
    raw = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    bias, before = env.get("bias"), env.get("scores")
    if "bias" in how and bias is not None:
        raw = raw + bias[:, : raw.shape[-2], : raw.shape[-1]]
    if "carry" in how:
        if before is not None and before.shape == raw.shape:
            raw = before + raw
        env["scores"] = raw
    if "causal" in how:
        raw = raw.masked_fill(torch.ones(raw.shape[-2:]).triu(1).bool(), -1e4)
    if hidden is not None:
        raw = raw.masked_fill(hidden[:, None, None], -1e4)
    return raw.softmax(-1)
