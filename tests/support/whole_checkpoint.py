"""Checkpoints that a run can continue from, as far as their files tell."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from gamma_nlp.files.manifest import seal

BOTH = (
    *("config.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"),
    *("counts.json", "trainer_state.json", "training_args.bin"),
)
RECIPES = {
    "sst2": (*BOTH, "tokenizer.json", "tokenizer_config.json"),
    "translation": (*BOTH, "generation_config.json", "token_batches.json"),
}
"""The files that each recipe's checkpoint holds, besides its manifest."""


def whole_checkpoint(run: Path, step: int) -> Path:
    """Write a sealed checkpoint of a run and return its folder."""
    path = run / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.bin", "optimizer.pt.bin", "scheduler.pt.bin", "rng_state.bin"):
        (path / name).write_bytes(b"1")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    seal(path)
    return path


def recipe_checkpoint(run: Path, step: int, recipe: str) -> Path:
    """Write a sealed checkpoint with the files of a recipe's, small and of their formats."""
    path = run / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in RECIPES[recipe]:
        if name.endswith(".json"):
            (path / name).write_text(json.dumps({"global_step": step, "name": name}))
        elif name.endswith(".safetensors"):
            save_file({"weight": torch.full((8,), float(step))}, path / name)
        else:
            torch.save({name: torch.full((8,), float(step))}, path / name)
    seal(path)
    return path
