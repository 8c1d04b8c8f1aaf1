"""Tiny translation runs: a prepared corpus, a configuration, and the run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from gamma_nlp.tasks.translation.arguments import read_arguments
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from gamma_nlp.tasks.translation.train import train_translation
from tests.support.paths import RECIPES

RECIPE = RECIPES / "translation.py"
MARIAN = {
    "model_type": "marian",
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
    "dropout": 0.1,
}
PRENORM = MARIAN | {"model_type": "pegasus"}
# Checkpoints within epochs as well as at their ends.
LONG = {"num_train_epochs": 6, "average_last": 2, "save_strategy": "steps", "save_steps": 4}
_WORDS = (("Hund", "dog"), ("Katze", "cat"), ("Frau", "woman"), ("Mann", "man"), ("Ball", "ball"))
_VERBS = (("sieht", "sees"), ("sucht", "seeks"), ("ruft", "calls"))


def prepared_corpus(folder: Path) -> Path:
    """75 pairs to train on, 9 to validate, 7 to test: subject, verb, object.

    Odd numbers, which two processes cannot share alike.
    """
    raw = folder / "raw"
    raw.mkdir(parents=True)
    pairs = [
        (f"Der {one[0]} {verb[0]} den {two[0]}.", f"The {one[1]} {verb[1]} the {two[1]}.")
        for one in _WORDS
        for verb in _VERBS
        for two in _WORDS
    ]
    for name, part in (("train", pairs), ("valid", pairs[2::9]), ("test", pairs[5::11])):
        for side, language in enumerate(("de", "en")):
            text = "".join(f"{pair[side]}\n" for pair in part)
            (raw / f"{name}.{language}").write_text(text, encoding="utf-8")
    recipe = Preparation(merges=20, cleaning=Cleaning())
    prepare(read_corpus(raw, ("de", "en")), recipe, folder / "prepared")
    return folder / "prepared"


def experiment(folder: Path, data: Path | str | None, **changes: Any) -> list[str]:
    """Write a YAML file and return the command line for a tiny run."""
    content = {
        "data": None if data is None else str(data),
        "model_config": MARIAN,
        "decay_policy": "all",
        "dose": 0.2,
        "max_tokens": 128,
        "beams": 2,
        "num_train_epochs": 2,
        "learning_rate": "1e-3",
        "lr_scheduler_type": "inverse_sqrt",
        "warmup_steps": 5,
        "label_smoothing_factor": 0.1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_steps": 5,
        "logging_first_step": True,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(folder / "run"),
    }
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.yaml"
    kept = {key: value for key, value in (content | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return [str(path)]


def train(argv: list[str]) -> dict[str, Any]:
    return train_translation(*read_arguments(argv), quiet=True)


def recipe() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("translation", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished_run(folder: Path, data: Path) -> Path:
    """The folder of a run by ``LONG`` that nothing stopped."""
    train(experiment(folder, data, **LONG))
    return folder / "run"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether two saved models are equal bit for bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)
