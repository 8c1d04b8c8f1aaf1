"""Train a translation model: from settings to translations, ``results.json`` and a plot.

The data is a folder that ``scripts/prepare_iwslt14`` wrote; the model is one of transformers',
made from a config; the final model is the mean of the last checkpoints, and its translations of
every test set are written and scored.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import transformers
from transformers import PrinterCallback, ProgressCallback, Seq2SeqTrainingArguments

from gamma_nlp.errors import GammaError, need_installed
from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.by_tokens import PairCollator, TokenBatches
from gamma_nlp.hf.schedule import decay_for_dose, rates_of_arguments
from gamma_nlp.tasks.run.folder import claim_folder, last_checkpoint
from gamma_nlp.tasks.run.machine import set_threads
from gamma_nlp.tasks.run.report import evaluations, plan_line, write_report
from gamma_nlp.tasks.run.settings import read_yaml
from gamma_nlp.tasks.translation.architecture import build_translator, check_lengths
from gamma_nlp.tasks.translation.arguments import TranslationArguments
from gamma_nlp.tasks.translation.data import PairData, load_splits
from gamma_nlp.tasks.translation.decode import Search
from gamma_nlp.tasks.translation.final import final_model, translate_splits
from gamma_nlp.tasks.translation.resume import check_text, is_trained
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from gamma_nlp.tasks.translation.trainer import Patience, TranslationTrainer


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
    threads = set_threads(recipe.cpu_threads)
    policy = recipe.policy()
    settings = _model_settings(recipe)
    text, splits = _read(recipe)
    transformers.set_seed(args.seed)
    model = build_translator(settings, text)
    check_lengths(model, ((name, max(map(max, data.lengths))) for name, data in splits.items()))
    rates = rates_of_arguments(args, len(_batches(splits["train"], recipe, args)))
    if recipe.dose is not None:
        args.weight_decay = decay_for_dose(recipe.dose, rates)

    output = Path(args.output_dir)
    identity = {
        "languages": [text.source_language, text.target_language],
        "joint_vocabulary": text.joint,
        "model_config": settings,
        "max_tokens": recipe.max_tokens,
        "seed": args.seed,
    }
    resume = claim_folder(output, identity, recipe.resume)
    patience = None if recipe.patience is None else Patience(recipe.patience)
    trained = False
    if resume:
        check_text(output, text, str(recipe.data))
        trained = is_trained(
            output,
            len(rates),
            lambda history: patience is not None and patience.spent(args, history),
        )
    elif args.process_index == 0:
        text.save(output)
    if args.process_index == 0 and not quiet:
        what = f"{text.source_language}-{text.target_language}: {len(splits['train'])} pairs"
        print(plan_line(what, args, policy, rates, threads), flush=True)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits["valid"],
        data_collator=PairCollator(text.source.pad_token_id, width_multiple=_width(args)),
        decay_policy=policy,
        token_budget=_budget(recipe, args),
        pair_lengths=splits["train"].lengths,
        text=text,
        search=Search(beams=recipe.eval_beams, length_penalty=recipe.length_penalty),
        callbacks=None if patience is None else [patience],
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
    last = last_checkpoint(output) if resume else None
    seconds = _train(trainer, last, trained=trained)
    final = final_model(trainer, output, recipe.average_last)
    search = Search(beams=recipe.beams, length_penalty=recipe.length_penalty)
    found = {
        "task": f"{text.source_language}-{text.target_language}",
        "model": model.config.model_type,
        **translate_splits(trainer, final, splits, search, output),
    }
    return write_report(
        trainer,
        recipe,
        rates,
        seconds,
        found=found,
        resumed=resume,
        smoothing=args.label_smoothing_factor,
    )


def _model_settings(recipe: TranslationArguments) -> dict[str, Any]:
    if recipe.model_config is None:
        raise GammaError("model_config is missing: give config fields in YAML, or a YAML file")
    if isinstance(recipe.model_config, str):
        return read_yaml(Path(recipe.model_config))
    return recipe.model_config


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
    return text, load_splits(recipe.data, text)


def _train(trainer: TranslationTrainer, last: Path | None, *, trained: bool) -> float:
    """Train and evaluate, from the checkpoint ``last`` on if there is one; return the seconds."""
    start = time.perf_counter()
    if trained and last is not None:
        trainer.restore(last)
    else:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    history = evaluations(trainer.state.log_history)
    if not history or history[-1]["step"] < trainer.state.global_step:
        trainer.evaluate()  # the final score is that of the last step
    return time.perf_counter() - start


def _width(args: Seq2SeqTrainingArguments) -> int:
    return 8 if args.device.type == "cuda" else 1  # tensor cores want multiples of 8


def _budget(recipe: TranslationArguments, args: Seq2SeqTrainingArguments) -> TokenBudget:
    return TokenBudget(
        max_tokens=recipe.max_tokens, width_multiple=_width(args), skip_long=recipe.skip_long
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
