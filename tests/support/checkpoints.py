"""Checkpoints of tiny models, and one of a large model whose weights take no space on disk."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.tiny_models import tiny_bert

HIDDEN, LAYERS = 8192, 80
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": 28672,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "dtype": "bfloat16",
}
"""The sizes of a Llama with 70 billion parameters."""


def gains_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The gains of a tiny BERT."""
    return {n: p for n, p in model.named_parameters() if "LayerNorm.weight" in n}


def scaled(model: Any, factor: float) -> Any:
    """The same model with all gains multiplied."""
    with torch.no_grad():
        for gain in gains_of(model).values():
            gain.mul_(factor)
    return model


def run_of_bert(folder: Path, factors: Mapping[int, float], layers: int = 2) -> Path:
    """A run's folder: a checkpoint for each step, its gains multiplied once more."""
    model = tiny_bert(layers)
    for step, factor in factors.items():
        scaled(model, factor).save_pretrained(folder / f"checkpoint-{step}")
    return folder


def safetensors_file(path: Path, tensors: Mapping[str, Tensor | tuple[int, ...]]) -> None:
    """Write bfloat16 tensors; of one that is given by its shape there is a hole and no bytes."""
    head: dict[str, Any] = {}
    at = 0
    for name, what in tensors.items():
        shape = list(what.shape if isinstance(what, Tensor) else what)
        end = at + 2 * torch.Size(shape).numel()
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        for name, what in tensors.items():
            if isinstance(what, Tensor):
                file.seek(start + head[name]["data_offsets"][0])
                file.write(what.to(torch.bfloat16).view(torch.uint8).numpy().tobytes())
        file.truncate(start + at)


def large_llama(folder: Path, gain: float) -> Path:
    """A Llama with 80 layers in 27 shards: 128 GB by their sizes, 3 MB on disk."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    norm = torch.full((HIDDEN,), gain)
    shards: dict[str, dict[str, Tensor | tuple[int, ...]]] = {}
    for layer in range(LAYERS):
        own = shards.setdefault(f"model-{layer // 3:05d}-of-00027.safetensors", {})
        if not layer:
            own["model.embed_tokens.weight"] = (32000, HIDDEN)
            own["model.norm.weight"] = norm
        for name in ("input_layernorm", "post_attention_layernorm"):
            own[f"model.layers.{layer}.{name}.weight"] = norm
        for name, rows in (("q", HIDDEN), ("k", 1024), ("v", 1024), ("o", HIDDEN)):
            own[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = (rows, HIDDEN)
        for name in ("gate", "up", "down"):
            own[f"model.layers.{layer}.mlp.{name}_proj.weight"] = (28672, HIDDEN)
    for file, tensors in shards.items():
        safetensors_file(folder / file, tensors)
    places = {name: file for file, tensors in shards.items() for name in tensors}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
