"""Train a translation model: from settings to translations, ``results.json`` and a plot.

The data is a folder that ``scripts/prepare_iwslt14`` wrote; the model is one of transformers',
made from a config; the final model is the mean of the last checkpoints, and its translations of
every test set are written and scored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import transformers
from transformers import Seq2SeqTrainingArguments

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError, need_installed
from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.hf.batches.shapes import MOST_SHAPES
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments
from gamma_nlp.tasks.run.doses import planned
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.identity import digest, identity, rates_of_parts
from gamma_nlp.tasks.run.machine import set_threads
from gamma_nlp.tasks.run.model_config import model_fields
from gamma_nlp.tasks.run.report import write_report
from gamma_nlp.tasks.run.speed import load_ahead, settle_compile
from gamma_nlp.tasks.run.start import check_start, move_start, usable_settings, writing_nothing
from gamma_nlp.tasks.run.training import History, begin, is_trained, settle_decay, train
from gamma_nlp.tasks.run.vocabulary import check_known
from gamma_nlp.tasks.translation.architecture import build_translator, check_lengths
from gamma_nlp.tasks.translation.arguments import TranslationArguments
from gamma_nlp.tasks.translation.data import PairData, load_splits
from gamma_nlp.tasks.translation.decode import Search
from gamma_nlp.tasks.translation.final import final_model, translate_splits
from gamma_nlp.tasks.translation.outcomes import sources_of
from gamma_nlp.tasks.translation.text import TranslationText, check_text, read_prepared
from gamma_nlp.tasks.translation.trainer import Patience, TranslationTrainer

GPU_SEARCH_TOKENS = 65_536
"""Size of a batch in the search on a GPU: some hundred sentences with 5 beams. Its keys and values
are 1.6 GB for 6 decoder layers of width 512, and as much for those of the source."""


def train_translation(
    recipe: TranslationArguments, args: Seq2SeqTrainingArguments, *, quiet: bool = False
) -> dict[str, Any]:
    """Train, average, translate and score; everything goes into ``args.output_dir``.

    Args:
        recipe: Data, model, policy, search.
        args: The Trainer's arguments.
        quiet: Print no logs.

    Returns:
        The content of ``results.json``, and the log.

    Raises:
        GammaError: Settings, data, model or output folder cannot be used; raised before any
            training step. Later: the model's output is no longer a number.
    """
    need_installed(("accelerate", "matplotlib"), "recipes", "training needs")
    packages = ("sacrebleu", "sacremoses", "subword_nmt")
    need_installed(packages, "translation", "a translation run needs")
    set_threads(recipe.cpu_threads)
    policy = recipe.policy()
    search = _search(recipe, args, recipe.beams)
    fields = _model_fields(recipe)
    with claimed(
        args.output_dir,
        resume=recipe.resume,
        main_process=args.process_index == 0,
        sharded=bool(args.fsdp or args.deepspeed),
    ) as claim:
        claim.agree(
            **identity(recipe, args, policy, fields),
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            processes=args.world_size,
        )
        text, splits, model = _ready(recipe, args, fields)
        batches = _batches(splits["train"], recipe, args)
        shapes = len(batches.shapes) if recipe.batch_shapes == "few" else None

        def plan(planned: Seq2SeqTrainingArguments) -> list[float]:
            return rates_of_arguments(planned, len(batches))

        rates = plan(args)
        if claim.last is not None:
            check_text(claim.folder, text, str(recipe.data))
        patience = None if recipe.patience is None else Patience(recipe.patience)

        def spent(history: History) -> bool:
            return patience is not None and patience.spent(args, history)

        trained = is_trained(claim, args, len(rates), spent)
        digests = {name: _digest(data) for name, data in splits.items()}
        settle_decay(claim, recipe, args, rates, digests["train"])
        decision = settle_compile(recipe, args, model, shapes=shapes, steps=len(rates))
        trainer = _trainer(recipe, args, policy, model, text, splits, patience)
        trainer.compile_decision = decision
        task = f"{text.source_language}-{text.target_language}"
        what = (
            f"{task}: {len(splits['train'])} pairs in {batches.batches} batches of "
            f"{len(batches.shapes)} shapes"
        )
        parts = begin(claim, trainer, what, rates, quiet=quiet)
        if args.process_index == 0:
            text.save(claim.folder)
        seconds = train(trainer, claim.last, trained=trained)
        final = final_model(trainer, claim.folder, recipe.average_last)
        scores, items = translate_splits(trainer, final, splits, search, claim.folder)
        padding = {side: round(share, 4) for side, share in batches.padding._asdict().items()}
        return write_report(
            trainer,
            recipe,
            rates_of_parts(parts, args, plan),
            seconds,
            found={"task": task, "model": model.config.model_type, "padding": padding, **scores},
            parts=parts,
            data=digests,
            items=items,
            sources=sources_of(items),
            smoothing=args.label_smoothing_factor,
        )


def plan_translation(
    recipe: TranslationArguments, args: Seq2SeqTrainingArguments, *, picture: bool = False
) -> dict[str, Any]:
    """Return what :func:`train_translation` would do; train nothing and write nothing.

    Returns:
        As :func:`gamma_nlp.tasks.run.doses.planned`.

    Raises:
        GammaError: As :func:`train_translation` before its first step.
    """
    set_threads(recipe.cpu_threads)
    text, splits, model = _ready(recipe, args, _model_fields(recipe))
    rates = rates_of_arguments(args, len(_batches(splits["train"], recipe, args)))
    if recipe.dose is not None:
        args.weight_decay = decay_for_dose(recipe.dose, rates)
    with writing_nothing(args):
        trainer = _trainer(recipe, args, recipe.policy(), model, text, splits, None)
        digests = {name: _digest(data) for name, data in splits.items()}
        return planned(trainer, rates, digests, picture=picture)


def _model_fields(recipe: TranslationArguments) -> Mapping[str, Any]:
    if recipe.model_config is None:
        raise GammaError("model_config is missing: give config fields in YAML, or a YAML file")
    return model_fields(recipe.model_config)


def _ready(
    recipe: TranslationArguments, args: Seq2SeqTrainingArguments, fields: Mapping[str, Any]
) -> tuple[TranslationText, dict[str, PairData], Any]:
    """Return text and splits, and the model with its initial weights."""
    text, splits = _read(recipe)
    transformers.set_seed(args.seed)
    model = build_translator(fields, text)
    check_lengths(model, ((name, max(map(max, data.lengths))) for name, data in splits.items()))
    move_start(model, recipe.init_noise, args.seed)
    return text, splits, model


def _trainer(
    recipe: TranslationArguments,
    args: Seq2SeqTrainingArguments,
    policy: DecayPolicy,
    model: Any,
    text: TranslationText,
    splits: Mapping[str, PairData],
    patience: Patience | None,
) -> TranslationTrainer:
    load_ahead(args)
    budget = _budget(recipe, args)
    with usable_settings():
        trainer = TranslationTrainer(
            model=model,
            args=args,
            train_dataset=splits["train"],
            eval_dataset=splits["valid"],
            data_collator=PairCollator(
                text.source.pad_token_id, width_multiple=budget.width_multiple
            ),
            decay_policy=policy,
            token_budget=budget,
            pair_lengths=splits["train"].lengths,
            text=text,
            search=_search(recipe, args, recipe.eval_beams),
            callbacks=None if patience is None else [patience],
        )
        trainer.on_nan, trainer.graphs = recipe.on_nan, recipe.graphs
        check_start(trainer)
    return trainer


def _digest(data: PairData) -> str:
    return digest(ids.tobytes() for side in (data.source, data.target) for ids in side)


def _read(recipe: TranslationArguments) -> tuple[TranslationText, dict[str, PairData]]:
    if recipe.data is None:
        raise GammaError(
            "data is missing: give --data FOLDER, made with: bash scripts/prepare_iwslt14 INPUT "
            "FOLDER"
        )
    text = read_prepared(
        recipe.data,
        recipe.source_language,
        recipe.target_language,
        joint=recipe.joint_vocabulary,
    )
    splits = load_splits(recipe.data, text)
    for side, ids, words in (
        (text.source_language, splits["train"].source, text.source),
        (text.target_language, splits["train"].target, text.target),
    ):
        check_known(
            f"the training text in {side}",
            np.concatenate(ids),
            unknown=words.unk_token_id,
            special=words.all_special_ids,
        )
    return text, splits


def _search(recipe: TranslationArguments, args: Seq2SeqTrainingArguments, beams: int) -> Search:
    search = Search(beams=beams, length_penalty=recipe.length_penalty)
    if args.device.type != "cuda":
        return search
    return dataclasses.replace(search, max_tokens=GPU_SEARCH_TOKENS)


def _budget(recipe: TranslationArguments, args: Seq2SeqTrainingArguments) -> TokenBudget:
    few = recipe.batch_shapes == "few"
    eights = args.device.type == "cuda"  # which tensor cores like
    return TokenBudget(
        max_tokens=recipe.max_tokens,
        # Of small batches, and of any width, eights would be mostly padding where shapes are few.
        multiple_of=8 if few and eights and recipe.max_tokens >= 8192 else 1,
        width_multiple=8 if eights and not few else 1,
        skip_long=recipe.skip_long,
        max_shapes=MOST_SHAPES if few else None,
    )


def _batches(
    train: PairData, recipe: TranslationArguments, args: Seq2SeqTrainingArguments
) -> TokenBatches:
    return TokenBatches(
        *train.lengths,
        _budget(recipe, args),
        world_size=args.world_size,
        remainder="drop" if args.dataloader_drop_last else "fill",
    )
