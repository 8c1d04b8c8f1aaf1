"""What networks read: ids or dense inputs, positions, a class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .builder import Builder
from .parts import Part

BATCH, TOKENS, WORDS = 2, 8, 32


def make_source(builder: Builder, dim: int) -> tuple[nn.Module, Tensor, str]:
    """From ids or dense inputs to a stream."""
    name = builder.pick(["ids", "ids, positions", "dense", "dense mapped", "dense, positions"])
    builder.kind(f"input: {name}")
    if name.startswith("ids"):
        ids = torch.stack([torch.randperm(WORDS)[:TOKENS] for _ in range(BATCH)])
        members = [nn.Embedding(WORDS, dim)]
        if "positions" in name:
            members.append(nn.Embedding(TOKENS, dim))
        module = builder.part(look_up, *members, scale=builder.pick([1.0, dim**0.5]))
        inputs = ids
    elif name == "dense mapped":
        inputs = torch.randn(BATCH, TOKENS, 6)
        module = builder.part(lambda m, x: m[0](x), builder.weight(6, dim))
    else:
        inputs = torch.randn(BATCH, TOKENS, dim)
        shift = [nn.Parameter(torch.randn(TOKENS, dim))] if "positions" in name else []
        module = builder.part(lambda m, x: x + m[0] if len(m) else x, *shift)
    if builder.flag(0.15):
        builder.kind("class token")
        name += " and class token"
        token = nn.Parameter(torch.randn(1, 1, dim))
        module = builder.part(with_token, module, token)
    return module, inputs, f"{name}:"


def look_up(m: Part, ids: Tensor) -> Tensor:
    x = m[0](ids) * m.options["scale"]
    return x + m[1](torch.arange(ids.shape[1])) if len(m) > 1 else x


def with_token(m: Part, x: Tensor) -> Tensor:
    return torch.cat((m[1].expand(x.shape[0], -1, -1), m[0](x)[:, 1:]), dim=1)
