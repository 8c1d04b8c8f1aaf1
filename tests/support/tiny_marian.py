"""One tiny Marian model, for every test that needs weights and not a training."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel


def tiny_marian(seed: int = 0, **changes: Any) -> Any:
    """One layer a side, random weights; padding is token 0, the end mark 1."""
    torch.manual_seed(seed)
    fields = {
        "vocab_size": 24,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
    }
    return MarianMTModel(MarianConfig(**(fields | changes)))
