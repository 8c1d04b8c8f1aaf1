"""Folders with a ``config.json``."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tests.support.fuzz.kind import Kind, dump
from tests.support.fuzz.kinds.models import BERT, SMALL

CONFIGS = (
    BERT,
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SMALL,
     "num_key_value_heads": 1, "rope_theta": 1e4, "tie_word_embeddings": False},
    {"model_type": "bart", "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
     "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8,
     "decoder_ffn_dim": 8, "vocab_size": 16, "max_position_embeddings": 16},
    {"model_type": "marian", "architectures": ["MarianMTModel"], "d_model": 8,
     "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
     "decoder_attention_heads": 2, "vocab_size": 16, "pad_token_id": 1,
     "decoder_start_token_id": 1,
     "max_position_embeddings": 16},
    {"model_type": "mixtral", **SMALL, "num_local_experts": 2, "num_experts_per_tok": 1,
     "num_key_value_heads": 1},
    {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SMALL, "head_dim": 4,
     "num_key_value_heads": 1, "layer_types": ["sliding_attention", "full_attention"]},
     "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
     "intermediate_size": 8, "image_size": 16, "patch_size": 8}},
    {"model_type": "swin", "depths": [1, 1], "num_heads": [1, 2], "embed_dim": 8,
     "image_size": 32, "patch_size": 4, "window_size": 4},
    {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C", "AutoModel": "theirs.M"}},
)  # fmt: skip


THEIRS = b"open('ran', 'w').close()\nclass C: pass\nclass M: pass\n"


def _config(folder: Path) -> None:
    from gamma_nlp.hf.models import load_model

    assert isinstance(load_model(folder), nn.Module)


def _config_files() -> tuple[dict[str, bytes], ...]:
    return tuple({"config.json": dump(one), "theirs.py": THEIRS} for one in CONFIGS)


MODEL_CONFIGS = Kind(good=_config_files, read=_config, share=1.2)
