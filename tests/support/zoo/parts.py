"""The parts that structures of the zoo are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.structures import D, Net, linear, mlp, norm, signal

__all__ = [
    "Attention", "D", "Net", "bn", "channels_last", "conv", "conv_bn", "heads", "image",
    "linear", "mlp", "norm", "repeat", "rms", "signal", "tokens",
]  # fmt: skip


def repeat(count: int, make: Callable[[], nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(make() for _ in range(count))


def rms(size: int = D) -> nn.RMSNorm:
    return nn.RMSNorm(size)


def conv(inputs: int = D, outputs: int = D, size: int = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def bn(size: int = D) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(size)


def conv_bn(inputs: int = D, outputs: int = D, size: int = 1, **options: Any) -> nn.Sequential:
    """A convolution (``0``) and its batch norm (``1``)."""
    return nn.Sequential(conv(inputs, outputs, size, bias=False, **options), bn(outputs))


def image(channels: int = 3, size: int = 8) -> Tensor:
    return signal(1, channels, size, size)


def tokens(length: int = 9, vocabulary: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (2, length), generator=generator)


def channels_last(m: nn.Module, x: Tensor) -> Tensor:
    """Apply a module for tokens to an image."""
    return m(x.movedim(1, -1)).movedim(-1, 1)


def heads(x: Tensor, count: int = 2) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(-2, -3)


class Attention(nn.Module):
    """Attention of ``x`` to ``memory``, by default to itself; with norms on queries and keys."""

    def __init__(self, size: int = D, qk_norm: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = linear(size, size), linear(size, size), linear(size, size)
        self.out = linear(size, size)
        if qk_norm:
            self.q_norm, self.k_norm = rms(size // 2), rms(size // 2)
        self.qk_norm = qk_norm

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        q, k, v = heads(self.q(x)), heads(self.k(memory)), heads(self.v(memory))
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return self.out((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2))
