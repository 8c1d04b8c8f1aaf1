"""Tiny models, data and arguments for Trainer tests: everything on CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    TrainingArguments,
)

VOCAB, LENGTH = 64, 8
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 16,
}


def config_folder(path: Path, **changes: Any) -> Path:
    """A folder with a small BERT's ``config.json`` and nothing else."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    return path


def tiny_bert(layers: int = 2) -> nn.Module:
    """A post-norm classifier without dropout: its gains are shortcut and head."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config)


def tiny_gpt2() -> nn.Module:
    """A pre-norm language model without dropout: its gains are branch_inner and head."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=LENGTH,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config)


def tiny_marian(seed: int = 0, **changes: Any) -> Any:
    """One layer a side, random weights; padding is token 0, the end token 1."""
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


def classified(number: int = 16) -> list[dict[str, torch.Tensor]]:
    """Random token ids with labels 0 and 1."""
    return [{"input_ids": ids, "labels": torch.tensor(i % 2)} for i, ids in enumerate(_ids(number))]


def texts(number: int = 16) -> list[dict[str, torch.Tensor]]:
    """Random token ids with partly masked labels, of other lengths in each text."""
    rows = []
    for i, ids in enumerate(_ids(number)):
        labels = ids.clone()
        labels[: 1 + i % 6] = -100
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def _ids(number: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, VOCAB, (LENGTH,), generator=generator) for _ in range(number)]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Four steps of batch 4, logged each, nothing saved."""
    chosen: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        **changes,
    }
    return TrainingArguments(**chosen)
