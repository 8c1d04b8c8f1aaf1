"""Fine-tune a classifier on a GLUE task: from settings to ``results.json`` and a plot.

To a Trainer run it adds a decay that is planned by its dose, batches with little padding, an output
folder that is never overwritten, and a record of everything that the score depends on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import TrainingArguments

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import need_installed
from gamma_nlp.hf.batches.by_length import Padder
from gamma_nlp.hf.batches.shapes import Shape, length_shapes
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments, sentence_batches
from gamma_nlp.tasks.glue.arguments import FinetuneArguments
from gamma_nlp.tasks.glue.ready import Ready, fields_of, make_ready
from gamma_nlp.tasks.glue.tasks import GlueTask, glue_task
from gamma_nlp.tasks.glue.trainer import FinetuneTrainer, outcomes, scorer
from gamma_nlp.tasks.run.doses import planned
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.identity import identity, rates_of_parts
from gamma_nlp.tasks.run.machine import set_threads
from gamma_nlp.tasks.run.report import write_report
from gamma_nlp.tasks.run.speed import load_ahead, settle_compile
from gamma_nlp.tasks.run.start import check_start, usable_settings, writing_nothing
from gamma_nlp.tasks.run.training import begin, is_trained, settle_decay, train


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
    fields = fields_of(recipe)
    with claimed(
        args.output_dir,
        resume=recipe.resume,
        main_process=args.process_index == 0,
        sharded=bool(args.fsdp or args.deepspeed),
    ) as claim:
        claim.agree(**identity(recipe, args, policy, fields), sentences_per_step=_together(args))
        ready = make_ready(recipe, args, task, policy, fields)

        def plan(planned: TrainingArguments) -> list[float]:
            return _rates(planned, ready)

        rates = plan(args)
        trained = is_trained(claim, args, len(rates))
        settle_decay(claim, recipe, args, rates, ready.digests["train"])
        few = _shapes(recipe, args, ready.encoded["train"].lengths)
        shapes = None if few is None else len(few)
        decision = settle_compile(recipe, args, ready.model, shapes=shapes, steps=len(rates))
        trainer = _trainer(recipe, args, task, policy, ready)
        trainer.compile_decision = decision
        what = f"{task.name}: {len(ready.encoded['train'])} training examples"
        if trainer.shapes is not None:
            what += f" in batches of {len(trainer.shapes)} shapes"
        parts = begin(claim, trainer, what, rates, quiet=quiet)
        seconds = train(trainer, claim.last, trained=trained)
        found = {"task": task.name, "model": recipe.model or ready.model.config.model_type}
        sets = {split: ready.encoded[split] for split in task.evaluation_splits}
        items, sources = outcomes(trainer, sets, task)
        return write_report(
            trainer,
            recipe,
            rates_of_parts(parts, args, plan),
            seconds,
            found=found,
            parts=parts,
            data=ready.digests,
            items=items,
            sources=sources,
        )


def plan_finetune(
    recipe: FinetuneArguments, args: TrainingArguments, *, picture: bool = False
) -> dict[str, Any]:
    """Return what :func:`finetune` would do; train nothing and write nothing.

    Returns:
        As :func:`gamma_nlp.tasks.run.doses.planned`.

    Raises:
        GammaError: As :func:`finetune` before its first step.
    """
    task, policy = glue_task(recipe.task), recipe.policy()
    set_threads(recipe.cpu_threads)
    ready = make_ready(recipe, args, task, policy, fields_of(recipe))
    rates = _rates(args, ready)
    if recipe.dose is not None:
        args.weight_decay = decay_for_dose(recipe.dose, rates)
    with writing_nothing(args):
        trainer = _trainer(recipe, args, task, policy, ready)
        return planned(trainer, rates, ready.digests, picture=picture)


def _rates(args: TrainingArguments, ready: Ready) -> list[float]:
    return rates_of_arguments(args, sentence_batches(args, len(ready.encoded["train"])))


def _together(args: TrainingArguments) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def _trainer(
    recipe: FinetuneArguments,
    args: TrainingArguments,
    task: GlueTask,
    policy: DecayPolicy,
    ready: Ready,
) -> FinetuneTrainer:
    encoded, tokenizer = ready.encoded, ready.tokenizer
    sets: Any = {split: encoded[split] for split in task.evaluation_splits}
    fill = {name: 0 for name in encoded["train"].columns}
    fill["input_ids"] = tokenizer.pad_token_id
    load_ahead(args)
    with usable_settings():
        trainer = FinetuneTrainer(
            model=ready.model,
            args=args,
            train_dataset=encoded["train"],
            eval_dataset=sets if len(sets) > 1 else next(iter(sets.values())),
            processing_class=tokenizer,
            data_collator=Padder(
                fill,
                length=recipe.max_length if recipe.padding == "max_length" else None,
                multiple=8 if args.device.type == "cuda" else 1,
            ),
            compute_metrics=scorer(task),
            decay_policy=policy,
            shapes=_shapes(recipe, args, encoded["train"].lengths),
        )
        trainer.on_nan, trainer.graphs = recipe.on_nan, recipe.graphs
        check_start(trainer)
    return trainer


def _shapes(
    recipe: FinetuneArguments, args: TrainingArguments, lengths: np.ndarray
) -> tuple[Shape, ...] | None:
    if recipe.batch_shapes != "few":
        return None
    if recipe.padding == "max_length":
        return ((args.train_batch_size, recipe.max_length),)
    return length_shapes(lengths, args.train_batch_size)
