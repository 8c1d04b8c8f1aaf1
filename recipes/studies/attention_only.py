"""A Llama without its MLPs: pre-norm attention blocks with RMSNorm, and a classifier at the end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionOnly(nn.Module):
    """Classifies a row of tokens from its last position.

    A token is ``1 + names * role + name``, or 0 for padding; what it is and where it stands have an
    embedding each, as a word and its place in a sentence would.

    Args:
        names: Number of names.
        roles: Number of roles.
        labels: Number of classes.
        width: Of the residual stream.
        layers: Number of attention blocks.
        heads: Of each block.
        start: Standard deviation of the initial weights.
    """

    def __init__(
        self,
        *,
        names: int,
        roles: int,
        labels: int,
        width: int,
        layers: int,
        heads: int,
        start: float,
    ) -> None:
        super().__init__()
        self.names = nn.Embedding(1 + names, width)
        self.roles = nn.Embedding(1 + roles, width)
        self.layers = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.score = nn.Linear(width, labels, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=start)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        names = self.names.num_embeddings - 1
        real = input_ids > 0
        name, role = (input_ids - 1) % names, (input_ids - 1) // names
        stream = self.names(real * (1 + name)) + self.roles(real * (1 + role))
        for layer in self.layers:
            stream = stream + layer(stream)
        logits = self.score(self.norm(stream[:, -1]))
        found = {"logits": logits}
        return found if labels is None else {"loss": F.cross_entropy(logits, labels), **found}


class Attention(nn.Module):
    """A residual branch: RMSNorm, then causal attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.queries, self.keys, self.values, self.output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, stream: Tensor) -> Tensor:
        x = self.norm(stream)
        q, k, v = (
            one(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one in (self.queries, self.keys, self.values)
        )
        mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output


def rotated(x: Tensor) -> Tensor:
    """Turn each pair of features by an angle that grows with the position (RoPE)."""
    length, size = x.shape[-2:]
    rates = 10_000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    angles = torch.arange(length, device=x.device)[:, None] * rates
    one, other = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)
