"""Tiny fine-tuning runs: a model's config and a recipe file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def experiment(folder: Path, data: Path, **changes: Any) -> list[str]:
    """Write a YAML file and return the command line for a tiny run."""
    content = {
        "data": str(data),
        "model_config": BERT,
        "vocab_size": 300,
        "max_length": 64,
        "decay_policy": "all",
        "dose": 0.2,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": "1e-3",
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_steps": 3,
        "logging_first_step": True,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(folder / "run"),
    }
    path = folder / "tiny.yaml"
    kept = {key: value for key, value in (content | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return [str(path)]
