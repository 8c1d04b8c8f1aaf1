"""The settings of a translation run, and those of the Trainer's that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import Seq2SeqTrainingArguments

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.arguments import HELPS, BatchArguments, complete, complete_best, filled_in
from gamma_nlp.tasks.run.settings import read_settings

_FOLDER = "runs/translation/{decay_policy}-seed{seed}"
_METRICS = ("bleu", "loss")


@dataclass(kw_only=True)
class TranslationArguments(BatchArguments):
    """What a translation run needs besides the Trainer's own arguments."""

    data: str | None = field(
        default=None, metadata={"help": "folder that scripts/prepare_iwslt14 wrote; required"}
    )
    source_language: str = field(default="de", metadata={"help": "translate from: two letters"})
    target_language: str = field(default="en", metadata={"help": "translate into: two letters"})
    joint_vocabulary: bool = field(
        default=True, metadata={"help": "one vocabulary for both languages; false: one each"}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "config fields (in YAML), or a YAML file with them; required"},
    )
    max_tokens: int = field(
        default=4096, metadata={"help": "tokens of a training batch on one process, with padding"}
    )
    skip_long: bool = field(
        default=False, metadata={"help": "leave out pairs that are wider than max_tokens"}
    )
    beams: int = field(default=5, metadata={"help": "beams of the final translations"})
    length_penalty: float = field(
        default=1.0, metadata={"help": "scores are divided by length to this power"}
    )
    eval_beams: int = field(default=1, metadata={"help": "beams for BLEU during training"})
    average_last: int = field(
        default=1, metadata={"help": "the final model is the mean of this many last checkpoints"}
    )
    patience: int | None = field(
        default=None,
        metadata={
            "help": "stop after this many evaluations without a better score; default: never"
        },
    )


def read_arguments(argv: Sequence[str]) -> tuple[TranslationArguments, Seq2SeqTrainingArguments]:
    """Read settings from ``[file.yaml] [--key value ...]``.

    Raises:
        GammaError: A key is unknown, or a value cannot be used.
    """
    recipe, args = read_settings(
        (TranslationArguments, Seq2SeqTrainingArguments),
        argv,
        rivals=(("dose", "weight_decay"),),
        complete=_complete,
        left_open=filled_in(output_dir=_FOLDER, best=_METRICS[0]),
        helps=HELPS,
    )
    return recipe, args


def _complete(values: dict[str, Any]) -> None:
    complete(values, output_dir=_FOLDER, names={})
    # The best checkpoint is tracked and kept in addition to those that are averaged.
    limit = values["save_total_limit"]
    if limit and limit > 0:  # otherwise all are kept
        values["save_total_limit"] = max(limit, (values["average_last"] or 1) + 1)
    complete_best(values, _METRICS)
    if values["save_strategy"] == "best":
        raise GammaError(
            "save_strategy best would leave out the last checkpoints, which the final model is "
            "the mean of; set it to epoch or steps (the best one is kept all the same)"
        )
    if values["load_best_model_at_end"]:
        raise GammaError(
            "load_best_model_at_end has no effect here: the final model is the mean of the last "
            "checkpoints; leave it out (gamma-nlp translate --checkpoint best takes the best one)"
        )
    if values["patience"] is not None and values["eval_strategy"] == "no":
        raise GammaError("patience needs evaluations; set eval_strategy, for example to epoch")


def final_scores(recipe: TranslationArguments) -> list[str]:
    """Return the names that the scores of a run have in ``final`` of its results."""
    return [f"eval_{name}" for name in _METRICS]
