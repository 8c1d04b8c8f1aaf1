"""Fine-tune a classifier on a GLUE task: from settings to ``results.json`` and a plot.

To a Trainer run it adds a decay that is planned by its dose, batches with little padding, an output
folder that is never overwritten, and a record of everything that the score depends on.
"""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import transformers
from transformers import TrainingArguments

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError, need_installed
from gamma_nlp.hf.batches.by_length import BucketSampler, Encoded, Padder, SortedSampler
from gamma_nlp.hf.schedule import rates_of_arguments, sentence_batches
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.tasks.glue.arguments import FinetuneArguments
from gamma_nlp.tasks.glue.data import check_labels, load_glue
from gamma_nlp.tasks.glue.metrics import GlueMetric
from gamma_nlp.tasks.glue.model import build_classifier, check_decays, load_classifier
from gamma_nlp.tasks.glue.pretrained import locate
from gamma_nlp.tasks.glue.tasks import GlueTask, glue_task
from gamma_nlp.tasks.glue.tokenizer import (
    check_own_tokenizer,
    encode,
    load_tokenizer,
    train_tokenizer,
)
from gamma_nlp.tasks.run.checkpoints import WholeCheckpoints
from gamma_nlp.tasks.run.counts import RunCounts
from gamma_nlp.tasks.run.finite import FiniteRun
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.identity import digest, identity, rates_of_parts
from gamma_nlp.tasks.run.machine import set_threads
from gamma_nlp.tasks.run.model_config import model_fields
from gamma_nlp.tasks.run.report import write_report
from gamma_nlp.tasks.run.start import check_start, usable_settings
from gamma_nlp.tasks.run.training import begin, is_trained, settle_decay, train
from gamma_nlp.tasks.run.vocabulary import check_known


class FinetuneTrainer(FiniteRun, WholeCheckpoints, RunCounts, GammaTrainer):
    """GammaTrainer with length buckets, that stops where its numbers are none."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return BucketSampler(data.lengths, batch * self.args.world_size, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        return SortedSampler(eval_dataset.lengths)


def finetune(
    recipe: FinetuneArguments, args: TrainingArguments, *, quiet: bool = False
) -> dict[str, Any]:
    """Train, evaluate and write ``results.json`` and ``training.png`` into ``args.output_dir``.

    Args:
        recipe: Task, data, model, policy.
        args: The Trainer's arguments.
        quiet: Print no logs.

    Returns:
        The content of ``results.json``.

    Raises:
        GammaError: Settings, data, model or output folder cannot be used; raised before any
            training step, and nothing is left in the folder. Later: loss, weights or scores are
            no longer numbers.
    """
    need_installed(("accelerate", "matplotlib"), "recipes", "fine-tuning needs")
    task = glue_task(recipe.task)
    set_threads(recipe.cpu_threads)
    policy = recipe.policy()
    if (recipe.model is None) == (recipe.model_config is None):
        raise GammaError("give either model (a hub name or folder) or model_config")
    fields = None if recipe.model_config is None else model_fields(recipe.model_config)
    with claimed(
        args.output_dir, resume=recipe.resume, main_process=args.process_index == 0
    ) as claim:
        claim.agree(**identity(recipe, args, policy, fields), sentences_per_step=_together(args))
        if recipe.model is not None and recipe.dose is None and args.weight_decay == 0:
            check_decays(recipe.model, task, policy)
        data = load_glue(task, recipe.data)
        check_labels(data, task)
        transformers.set_seed(args.seed)
        tokenizer, model = _tokenizer_and_model(recipe, fields, task, data)
        encoded = _encode_all(tokenizer, model, data, task, recipe)

        def plan(planned: TrainingArguments) -> list[float]:
            return rates_of_arguments(planned, sentence_batches(planned, len(encoded["train"])))

        rates = plan(args)
        trained = is_trained(claim, args, len(rates))
        settle_decay(claim, recipe, args, rates, _digest(data["train"], task))
        trainer = _trainer(recipe, args, task, policy, tokenizer, model, encoded)
        what = f"{task.name}: {len(encoded['train'])} training examples"
        parts = begin(claim, trainer, what, rates, quiet=quiet)
        seconds = train(trainer, claim.last, trained=trained)
        found = {"task": task.name, "model": recipe.model or model.config.model_type}
        taken = rates_of_parts(parts, args, plan)
        return write_report(trainer, recipe, taken, seconds, found=found, parts=parts)


def _together(args: TrainingArguments) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def _digest(rows: Any, task: GlueTask) -> str:
    return digest(zip(*(rows[name][:] for name in (*task.texts, "label")), strict=True))


def _trainer(
    recipe: FinetuneArguments,
    args: TrainingArguments,
    task: GlueTask,
    policy: DecayPolicy,
    tokenizer: Any,
    model: Any,
    encoded: Mapping[str, Encoded],
) -> FinetuneTrainer:
    sets: Any = {split: encoded[split] for split in task.evaluation_splits}
    fill = {name: 0 for name in encoded["train"].columns}
    fill["input_ids"] = tokenizer.pad_token_id
    with usable_settings():
        trainer = FinetuneTrainer(
            model=model,
            args=args,
            train_dataset=encoded["train"],
            eval_dataset=sets if len(sets) > 1 else next(iter(sets.values())),
            processing_class=tokenizer,
            data_collator=Padder(
                fill,
                length=recipe.max_length if recipe.padding == "max_length" else None,
                multiple=8 if args.device.type == "cuda" else 1,
            ),
            compute_metrics=_scorer(task),
            decay_policy=policy,
        )
        check_start(trainer)
    return trainer


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


def _scorer(task: GlueTask) -> Any:
    metric = GlueMetric(task)

    def score(prediction: Any) -> dict[str, float]:
        logits = prediction.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        if not np.isfinite(logits).all():  # the largest of nan is class 0
            raise GammaError("the model's output is not a number (nan); has training diverged?")
        guesses = logits.reshape(-1) if task.regression else logits.argmax(axis=-1)
        scores = metric.compute(predictions=guesses, references=prediction.label_ids)
        return dict(scores or {})

    return score
