"""A stand-in for fairseq's TransformerModel: its names, its norm placements, no dependency.

Module names and the order of operations follow fairseq 0.12.2, ``modules/transformer_layer.py``
and ``models/transformer/transformer_{encoder,decoder}.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HOME = "fairseq.models.transformer.transformer_legacy"
D = 16


class MultiheadAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(D, D), nn.Linear(D, D)
        self.v_proj, self.out_proj = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        scores = self.q_proj(query) @ self.k_proj(memory).transpose(1, 2)
        return self.out_proj(scores.softmax(-1) @ self.v_proj(memory))


class TransformerEncoderLayerBase(nn.Module):
    def __init__(self, normalize_before: bool) -> None:
        super().__init__()
        self.normalize_before = normalize_before
        self.self_attn = MultiheadAttention()
        self.self_attn_layer_norm = nn.LayerNorm(D)
        self.fc1, self.fc2 = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)
        self.final_layer_norm = nn.LayerNorm(D)

    def sublayer(self, x: Tensor, norm: nn.Module, function: object) -> Tensor:
        if self.normalize_before:
            return x + function(norm(x))  # type: ignore[operator]
        return norm(x + function(x))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        x = self.sublayer(x, self.self_attn_layer_norm, lambda h: self.self_attn(h, h))
        return self.sublayer(x, self.final_layer_norm, lambda h: self.fc2(torch.relu(self.fc1(h))))


class TransformerDecoderLayerBase(TransformerEncoderLayerBase):
    def __init__(self, normalize_before: bool) -> None:
        super().__init__(normalize_before)
        self.encoder_attn = MultiheadAttention()
        self.encoder_attn_layer_norm = nn.LayerNorm(D)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:  # type: ignore[override]
        x = self.sublayer(x, self.self_attn_layer_norm, lambda h: self.self_attn(h, h))
        x = self.sublayer(x, self.encoder_attn_layer_norm, lambda h: self.encoder_attn(h, memory))
        return self.sublayer(x, self.final_layer_norm, lambda h: self.fc2(torch.relu(self.fc1(h))))


class Stack(nn.Module):
    def __init__(self, layer: type[nn.Module], before: bool, embedding_norm: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(32, D)
        self.layernorm_embedding = nn.LayerNorm(D) if embedding_norm else None
        self.layers = nn.ModuleList(layer(before) for _ in range(3))  # type: ignore[call-arg]
        self.layer_norm = nn.LayerNorm(D) if before else None

    def forward(self, tokens: Tensor, *memory: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        for layer in self.layers:
            x = layer(x, *memory)
        return x if self.layer_norm is None else self.layer_norm(x)


class TransformerModel(nn.Module):
    def __init__(self, encoder_before: bool, decoder_before: bool, embedding_norm: bool) -> None:
        super().__init__()
        self.encoder = Stack(TransformerEncoderLayerBase, encoder_before, embedding_norm)
        self.decoder = Stack(TransformerDecoderLayerBase, decoder_before, embedding_norm)
        self.output_projection = nn.Linear(D, 32, bias=False)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.output_projection(self.decoder(target, self.encoder(source)))


for _class in (
    MultiheadAttention,
    TransformerEncoderLayerBase,
    TransformerDecoderLayerBase,
    Stack,
    TransformerModel,
):
    _class.__module__ = HOME
