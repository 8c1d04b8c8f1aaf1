"""The settings of a fine-tuning run, and those of the Trainer's that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import TrainingArguments

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.tasks import GlueTask, glue_task
from gamma_nlp.tasks.run.arguments import HELPS, BatchArguments, complete, complete_best, filled_in
from gamma_nlp.tasks.run.settings import read_settings

_FOLDER = "runs/{task}/{decay_policy}-seed{seed}"


@dataclass(kw_only=True)
class FinetuneArguments(BatchArguments):
    """What a fine-tuning run needs besides the Trainer's own arguments."""

    task: str = field(default="sst2", metadata={"help": "GLUE task: sst2, cola, mrpc, rte, ..."})
    data: str = field(
        default="hub",
        metadata={"help": "'hub', a folder with the official TSV files, or 'opinions' (generated)"},
    )
    model: str | None = field(
        default=None,
        metadata={"help": "hub name or local folder of a pretrained model; this or model_config"},
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "instead of model: config fields (in YAML), or a YAML file with them"},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "hub name, folder or vocab.txt; default: the model's, or one that is learned"
        },
    )
    vocab_size: int = field(
        default=8000,
        metadata={"help": "size of the WordPiece vocabulary learned where no tokenizer is given"},
    )
    max_train_examples: int | None = field(
        default=None,
        metadata={
            "help": "train on this many, drawn once; every seed gets the same ones; default: all"
        },
    )
    max_length: int = field(default=128, metadata={"help": "longer examples are cut, in tokens"})
    padding: Literal["longest", "max_length"] = field(
        default="longest", metadata={"help": "pad to the longest of the batch, or all alike"}
    )


def read_arguments(argv: Sequence[str]) -> tuple[FinetuneArguments, TrainingArguments]:
    """Read settings from ``[file.yaml] [--key value ...]``.

    Raises:
        GammaError: A key is unknown, or a value cannot be used.
    """
    recipe, args = read_settings(
        (FinetuneArguments, TrainingArguments),
        argv,
        rivals=(("dose", "weight_decay"), ("model", "model_config")),
        complete=_complete,
        left_open=filled_in(output_dir=_FOLDER, best="the first score of the task"),
        helps=HELPS,
    )
    return recipe, args


def _complete(values: dict[str, Any]) -> None:
    task = glue_task(values["task"])
    if task.regression:
        if values["batch_shapes"] == "few":
            raise GammaError(
                "batch_shapes few fills rows with a label that no loss of classes counts; "
                f"{task.name} is scored in numbers: give any"
            )
        values["batch_shapes"] = "any"
    complete(values, output_dir=_FOLDER, names={"task": task.name})
    if task.regression and values["label_smoothing_factor"]:
        raise GammaError(f"label_smoothing_factor needs classes; {task.name} is scored in numbers")
    complete_best(values, _scores(task))


def final_scores(recipe: FinetuneArguments) -> list[str]:
    """Return the names that the scores of a run have in ``final`` of its results."""
    return [f"eval_{name}" for name in _scores(glue_task(recipe.task))]


def _scores(task: GlueTask) -> list[str]:
    sets = task.evaluation_splits
    prefixes = [""] if len(sets) == 1 else [f"{split}_" for split in sets]
    return [f"{prefix}{name}" for prefix in prefixes for name in (*task.metrics, "loss")]
