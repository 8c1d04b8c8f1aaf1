"""The settings that every recipe has, and what follows from them and from the hardware."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.checks import check_metric, check_settings

HELPS = {
    "weight_decay": "the coefficient that decay_policy multiplies, for gains as for all else; this "
    "or dose"
}
"""Of the Trainer's arguments that mean something else here."""

WORKERS = 2
"""Processes that make batches ahead of the step, on CUDA, where nobody said how many."""


@dataclass(kw_only=True)
class RunArguments:
    """What every recipe needs besides the Trainer's own arguments."""

    decay_policy: str = field(
        default="guidelines",
        metadata={"help": "a preset such as iwd, all or hugging_face, or a policy file"},
    )
    decay_mode: Literal["native", "decoupled", "coupled"] | None = field(
        default=None,
        metadata={
            "help": "the optimizer's own, AdamW's, or L2 in the gradient; default: the policy's"
        },
    )
    dose: float | None = field(
        default=None,
        metadata={
            "help": "choose weight_decay so that decay alone takes this share of a weight; "
            "default: weight_decay as given"
        },
    )
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto", metadata={"help": "auto: bf16 autocast on GPUs that have it"}
    )
    compile: Literal["auto", "on", "off"] = field(
        default="auto",
        metadata={"help": "torch.compile; auto: on CUDA, where a run is long enough to earn it"},
    )
    graphs: Literal["auto", "on", "off"] = field(
        default="auto",
        metadata={"help": "record steps as CUDA graphs and replay them; auto: where that works"},
    )
    resume: bool = field(
        default=False, metadata={"help": "resume from the last checkpoint in output_dir"}
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={"help": "CPU threads; default: torch's choice, all under accelerate"},
    )

    on_nan: Literal["stop", "skip", "warn"] = field(
        default="stop",
        metadata={
            "help": "where a loss or a gradient is not finite: end, leave the step out, or say so"
        },
    )
    init_noise: float | None = field(
        default=None,
        metadata={
            "help": "move the initial weights by this share, to see what that alone does; "
            "default: not at all"
        },
    )

    def policy(self) -> DecayPolicy:
        """Return the policy that ``decay_policy`` and ``decay_mode`` name.

        Raises:
            GammaError: There is no such policy.
        """
        policy = DecayPolicy.load(self.decay_policy)
        if self.decay_mode not in (None, policy.mode):
            assert self.decay_mode is not None
            name = f"{policy.name}-{self.decay_mode}"
            policy = dataclasses.replace(policy, name=name, mode=self.decay_mode)
        return policy


@dataclass(kw_only=True)
class BatchArguments(RunArguments):
    """What a recipe needs besides, whose batches may have few shapes."""

    batch_shapes: Literal["auto", "few", "any"] = field(
        default="auto",
        metadata={
            "help": "few: at most 32 shapes of batches, for a little more padding; auto: few on "
            "CUDA, any elsewhere"
        },
    )


def filled_in(*, output_dir: str, best: str) -> dict[str, str]:
    """Return in words what :func:`complete` and :func:`complete_best` fill in by default.

    Args:
        output_dir: The default folder.
        best: The score that ranks checkpoints.
    """
    return {
        "output_dir": output_dir,
        "dataloader_num_workers": f"{WORKERS} on CUDA, 0 elsewhere",
        "metric_for_best_model": best,
        "greater_is_better": "true, unless the metric is a loss",
    }


def complete(values: dict[str, Any], *, output_dir: str, names: Mapping[str, str]) -> None:
    """Check all settings of a run, and fill in those that follow from others.

    Args:
        values: All settings; changed in place.
        output_dir: The default folder. In it, and in one that is given, ``{seed}``,
            ``{decay_policy}`` (with the mode, where one is given) and the keys of ``names`` are
            replaced.
        names: Further names and what stands for them.

    Raises:
        GammaError: A setting cannot be used.
    """
    cuda = torch.cuda.is_available() and not values["use_cpu"]
    if values["dataloader_num_workers"] is None:
        values["dataloader_num_workers"] = WORKERS if cuda else 0
    check_settings(values)
    if values["graphs"] == "on" and not cuda:
        raise GammaError(
            "graphs on needs a CUDA device, and this run has none; leave it out: auto uses graphs "
            "where there is one"
        )
    folder = output_dir if values["output_dir"] is None else values["output_dir"]
    policy = Path(values["decay_policy"]).stem
    if values["decay_mode"] is not None:
        policy = f"{policy}-{values['decay_mode']}"
    for name, text in {**names, "decay_policy": policy, "seed": str(values["seed"])}.items():
        folder = folder.replace(f"{{{name}}}", text)
    values["output_dir"] = folder
    # The filter replaces a loss that is not a number by older ones; a recipe stops instead.
    values["logging_nan_inf_filter"] = False
    if cuda:
        # Said for tokenizers, which else warns whenever a worker starts.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    values["dataloader_pin_memory"] = values["dataloader_pin_memory"] and cuda
    if values.get("batch_shapes") == "auto":
        values["batch_shapes"] = "few" if cuda else "any"
    if values["precision"] == "bf16" or (
        values["precision"] == "auto" and cuda and torch.cuda.is_bf16_supported()
    ):
        values["bf16"] = not values["fp16"]
    if values["compile"] == "on":
        values["torch_compile"] = True


def complete_best(values: dict[str, Any], known: Sequence[str]) -> None:
    """Fill in the score that ranks checkpoints; the best is kept but not loaded at the end.

    Args:
        values: All settings; changed in place.
        known: The scores that evaluations have; the first is the default.

    Raises:
        GammaError: No evaluation has the score that was given.
    """
    values["metric_for_best_model"] = values["metric_for_best_model"] or known[0]
    check_metric(values["metric_for_best_model"], known)
    if values["greater_is_better"] is None:
        values["greater_is_better"] = not values["metric_for_best_model"].endswith("loss")
