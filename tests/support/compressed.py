"""Tensors with zeros, and whether two are the same to the bit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def thin(shape: tuple[int, ...], dtype: torch.dtype, kept: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 100, shape, generator=generator)
    values[torch.rand(shape, generator=generator) >= kept] = 0
    return values.to(torch.float32).to(dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.reshape(-1).view(torch.uint8).tolist() == b.reshape(-1).view(torch.uint8).tolist()


class Held(nn.Module):
    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)
