"""Model and data of a fine-tuning run, checked and encoded, before there is a Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import transformers
from transformers import TrainingArguments

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.by_length import Encoded
from gamma_nlp.tasks.glue.arguments import FinetuneArguments
from gamma_nlp.tasks.glue.data import check_labels, load_glue
from gamma_nlp.tasks.glue.model import build_classifier, check_decays, load_classifier
from gamma_nlp.tasks.glue.pretrained import locate
from gamma_nlp.tasks.glue.tasks import GlueTask
from gamma_nlp.tasks.glue.tokenizer import (
    check_own_tokenizer,
    encode,
    load_tokenizer,
    train_tokenizer,
)
from gamma_nlp.tasks.run.identity import digest
from gamma_nlp.tasks.run.model_config import model_fields
from gamma_nlp.tasks.run.start import move_start
from gamma_nlp.tasks.run.vocabulary import check_known


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What a Trainer is made of.

    Attributes:
        tokenizer: The model's.
        model: With its initial weights.
        encoded: Every split.
        digests: A short text for each split, that differs where its rows do.
    """

    tokenizer: Any
    model: Any
    encoded: Mapping[str, Encoded]
    digests: Mapping[str, str]


def fields_of(recipe: FinetuneArguments) -> Mapping[str, Any] | None:
    """Return the config fields of a model from scratch; ``None`` for a pretrained one.

    Raises:
        GammaError: Neither is given, or both.
    """
    if (recipe.model is None) == (recipe.model_config is None):
        raise GammaError("give either model (a hub name or folder) or model_config")
    return None if recipe.model_config is None else model_fields(recipe.model_config)


def make_ready(
    recipe: FinetuneArguments,
    args: TrainingArguments,
    task: GlueTask,
    policy: DecayPolicy,
    fields: Mapping[str, Any] | None,
) -> Ready:
    """Read the data and load or make the model.

    Raises:
        GammaError: They cannot be used, or do not fit each other.
    """
    if recipe.model is not None and recipe.dose is None and args.weight_decay == 0:
        check_decays(recipe.model, task, policy)
    data = load_glue(task, recipe.data)
    check_labels(data, task)
    data["train"] = _drawn(data["train"], recipe.max_train_examples)
    transformers.set_seed(args.seed)
    tokenizer, model = _tokenizer_and_model(recipe, fields, task, data)
    move_start(model, recipe.init_noise, args.seed)
    return Ready(
        tokenizer=tokenizer,
        model=model,
        encoded=_encode_all(tokenizer, model, data, task, recipe),
        digests={split: _digest(rows, task) for split, rows in data.items()},
    )


def _drawn(rows: Any, count: int | None) -> Any:
    """Return ``count`` rows in their order, the same ones for every seed; ``None``: all."""
    if count is None:
        return rows
    if count > len(rows):
        raise GammaError(
            f"max_train_examples {count} is more than the {len(rows)} training examples there are"
        )
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:count]))


def _digest(rows: Any, task: GlueTask) -> str:
    return digest(zip(*(rows[name][:] for name in (*task.texts, "label")), strict=True))


def _tokenizer_and_model(
    recipe: FinetuneArguments, settings: Mapping[str, Any] | None, task: GlueTask, data: Any
) -> tuple[Any, Any]:
    if recipe.model is not None:
        locate(recipe.model)
        tokenizer = load_tokenizer(recipe.tokenizer or recipe.model)
        if recipe.tokenizer is not None:
            check_own_tokenizer(recipe.tokenizer, tokenizer, recipe.model)
        return tokenizer, load_classifier(recipe.model, task, tokenizer)
    if recipe.tokenizer is not None:
        tokenizer = load_tokenizer(recipe.tokenizer)
    else:
        texts = [text for name in task.texts for text in data["train"][name][:]]
        tokenizer = train_tokenizer(texts, recipe.vocab_size)
    return tokenizer, build_classifier(settings or {}, task, tokenizer)


def _encode_all(
    tokenizer: Any, model: Any, data: Any, task: GlueTask, recipe: FinetuneArguments
) -> dict[str, Encoded]:
    """Encode every split, and refuse what would fail or mean nothing in training."""
    room = recipe.max_length - tokenizer.num_special_tokens_to_add(pair=len(task.texts) > 1)
    if room < len(task.texts):
        raise GammaError(
            f"max_length {recipe.max_length} leaves no room for text beside the special tokens of "
            f"{task.name}; give at least {recipe.max_length - room + len(task.texts)}, such as 128"
        )
    takes = inspect.signature(model.forward).parameters
    encoded = {split: _encode(tokenizer, rows, task, recipe, takes) for split, rows in data.items()}
    check_known(
        f"the training text of {task.name}",
        encoded["train"].columns["input_ids"],
        unknown=tokenizer.unk_token_id,
        special=tokenizer.all_special_ids,
    )
    padded = recipe.max_length if recipe.padding == "max_length" else 0
    _check_lengths(encoded, tokenizer, model, padded)
    return encoded


def _encode(
    tokenizer: Any, rows: Any, task: GlueTask, recipe: FinetuneArguments, takes: Container[str]
) -> Encoded:
    columns = encode(tokenizer, [rows[name][:] for name in task.texts], recipe.max_length)
    # Not every model has token types for the two texts of a pair; ModernBERT has none.
    known = {name: values for name, values in columns.items() if name in takes}
    return Encoded(known, rows["label"][:])


def _check_lengths(encoded: Mapping[str, Encoded], tokenizer: Any, model: Any, padded: int) -> None:
    # A model without the position fails at the first long example, perhaps an hour into training.
    limit = min(
        getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length,
        tokenizer.model_max_length,
    )
    longest = max(padded, *(int(examples.lengths.max()) for examples in encoded.values()))
    if longest > limit:
        raise GammaError(
            f"an example has {longest} tokens, longer than the {limit} that the model accepts; "
            f"give --max_length {limit}"
        )
