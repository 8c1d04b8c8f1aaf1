"""Recipes of fine-tuning and of translation, in YAML."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.fuzz.kind import Kind
from tests.support.fuzz.kinds.models import SMALL


@cache
def _tokenizer() -> Any:
    from gamma_nlp.tasks.glue.tokenizer import train_tokenizer

    return train_tokenizer(["a dog sees a cat", "the ball"], 60)


def _recipe(folder: Path) -> None:
    from gamma_nlp.tasks.glue.arguments import read_arguments
    from gamma_nlp.tasks.glue.model import build_classifier
    from gamma_nlp.tasks.glue.ready import fields_of
    from gamma_nlp.tasks.glue.tasks import glue_task

    recipe, _ = read_arguments([str(folder / "recipe.yaml"), "--use_cpu"])
    fields = fields_of(recipe)
    if fields is not None:
        build_classifier(fields, glue_task(recipe.task), _tokenizer())


def recipe_files() -> dict[str, bytes]:
    content = {
        "task": "sst2", "data": "opinions", "model_config": {"model_type": "bert", **SMALL},
        "output_dir": "out", "decay_policy": "guidelines", "learning_rate": 1e-3, "dose": 0.1,
        "num_train_epochs": 1, "per_device_train_batch_size": 8, "seed": 1, "max_length": 8,
        "lr_scheduler_type": "linear", "report_to": "none", "padding": "longest",
    }  # fmt: skip
    del content["model_config"]["max_position_embeddings"], content["model_config"]["vocab_size"]
    return {"recipe.yaml": yaml.safe_dump(content).encode()}


def _translation_recipe(folder: Path) -> None:
    from gamma_nlp.tasks.run.model_config import model_fields
    from gamma_nlp.tasks.translation.arguments import read_arguments

    recipe, _ = read_arguments([str(folder / "recipe.yaml"), "--use_cpu"])
    model_fields(recipe.model_config or {})


def _translation_recipe_files() -> dict[str, bytes]:
    content = {
        "data": "prepared", "source_language": "de", "target_language": "en", "output_dir": "out",
        "model_config": {"model_type": "marian", "d_model": 8, "encoder_layers": 1},
        "decay_policy": "none", "max_steps": 10, "learning_rate": "5e-4", "weight_decay": 0.1,
    }  # fmt: skip
    return {"recipe.yaml": yaml.safe_dump(content).encode()}


RECIPES = Kind(good=lambda: (recipe_files(),), read=_recipe)
TRANSLATION = Kind(good=lambda: (_translation_recipe_files(),), read=_translation_recipe, share=0.7)
