"""The settings of a fine-tuning run, and those of the Trainer's that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from gamma_nlp.glue_tasks import glue_task
from gamma_nlp.settings import read_settings


@dataclass(kw_only=True)
class FinetuneArguments:
    """What a fine-tuning run needs beside the Trainer's own arguments."""

    task: str = field(default="sst2", metadata={"help": "GLUE task: sst2, cola, mrpc, rte, ..."})
    data: str = field(
        default="hub", metadata={"help": "'hub', or a folder with the official GLUE TSV files"}
    )
    model: str | None = field(
        default=None, metadata={"help": "hub name or local folder of a pretrained model"}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "instead of model: config fields (in YAML), or a YAML file with them"},
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "hub name, folder or vocab.txt; default: the model's"}
    )
    vocab_size: int = field(
        default=8000,
        metadata={"help": "size of the WordPiece vocabulary learned where no tokenizer is given"},
    )
    decay_policy: str = field(
        default="guidelines", metadata={"help": "a preset's name, or a policy file"}
    )
    dose: float | None = field(
        default=None,
        metadata={"help": "choose weight_decay so that decay alone takes this share of a weight"},
    )
    max_length: int = field(default=128, metadata={"help": "longer examples are cut, in tokens"})
    padding: Literal["longest", "max_length"] = field(
        default="longest", metadata={"help": "pad to the longest of the batch, or all alike"}
    )
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto", metadata={"help": "auto: bf16 autocast on GPUs that have it"}
    )
    compile: Literal["auto", "on", "off"] = field(
        default="auto", metadata={"help": "torch.compile; auto: on CUDA"}
    )
    resume: bool = field(
        default=False, metadata={"help": "go on from the last checkpoint in output_dir"}
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={"help": "CPU threads; default: torch's choice, all under accelerate"},
    )


def read_arguments(argv: Sequence[str]) -> tuple[FinetuneArguments, TrainingArguments]:
    """Settings from ``[file.yaml] [--key value ...]``.

    Raises:
        GammaError: A key or value is not as it should be.
    """
    recipe, args = read_settings(
        (FinetuneArguments, TrainingArguments),
        argv,
        rivals=(("dose", "weight_decay"), ("model", "model_config")),
        complete=_complete,
    )
    return recipe, args


def _complete(values: dict[str, Any]) -> None:
    task = glue_task(values["task"])
    policy = Path(values["decay_policy"]).stem
    template = values["output_dir"] or "runs/{task}/{decay_policy}-seed{seed}"
    values["output_dir"] = (
        template.replace("{task}", task.name)
        .replace("{decay_policy}", policy)
        .replace("{seed}", str(values["seed"]))
    )
    cuda = torch.cuda.is_available() and not values["use_cpu"]
    values["dataloader_pin_memory"] = values["dataloader_pin_memory"] and cuda
    if values["precision"] == "bf16" or (
        values["precision"] == "auto" and cuda and torch.cuda.is_bf16_supported()
    ):
        values["bf16"] = not values["fp16"]
    if values["compile"] == "on" or (values["compile"] == "auto" and cuda):
        values["torch_compile"] = True
    # The best checkpoint is tracked and kept; the model at hand stays that of the final epoch.
    sets = task.evaluation_splits
    prefix = "" if len(sets) == 1 else f"{sets[0]}_"
    values["metric_for_best_model"] = values["metric_for_best_model"] or f"{prefix}{task.metric}"
    if values["greater_is_better"] is None:
        values["greater_is_better"] = not values["metric_for_best_model"].endswith("loss")
