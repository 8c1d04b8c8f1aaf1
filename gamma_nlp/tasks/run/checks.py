"""What no recipe can use: checked on all settings at once, before anything is read or made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError, close_to, is_installed
from gamma_nlp.tasks.run.machine import MOST_THREADS

_SEEDS = 2**32  # numpy takes no larger one

_LEAST: Mapping[str, float] = {
    # The recipes' own.
    **dict.fromkeys(
        ("max_length", "vocab_size", "max_tokens", "beams", "eval_beams", "average_last"), 1
    ),
    **dict.fromkeys(("patience", "cpu_threads"), 1),
    "max_train_examples": 2,
    "init_noise": 0,
    # The Trainer's.
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_accumulation_steps",
        ),
        1,
    ),
    **dict.fromkeys(("seed", "data_seed", "dataloader_num_workers"), 0),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"), 0),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor"), 0),
    **dict.fromkeys(("eval_delay", "neftune_noise_alpha"), 0),
}
_ABOVE_ZERO = ("logging_steps", "eval_steps", "save_steps")
_BELOW: Mapping[str, float] = {
    "num_train_epochs": 100_000,  # the rate of every step is planned
    "max_steps": 100_000_000,
    "cpu_threads": MOST_THREADS + 1,
    "init_noise": 0.1,
    **dict.fromkeys(("seed", "data_seed"), _SEEDS),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), 1),
}

_UNUSABLE: Mapping[str, tuple[Any, str]] = {
    "auto_find_batch_size": (False, "the plan and the dose follow from a fixed batch size"),
    "batch_eval_metrics": (False, "scores are those of the whole set, not means over batches"),
    "eval_do_concat_batches": (True, "scores are those of the whole set, not means over batches"),
    "prediction_loss_only": (False, "a run is reported by its score"),
    "label_names": (None, "the labels follow from the task"),
}


def check_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings that no recipe can use.

    Args:
        values: All settings, as typed.

    Raises:
        GammaError: A number is out of its range, or a setting cannot be used here or needs
            something that this machine lacks. Names the setting.
    """
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(name, value)
    if values["max_steps"] != -1 and values["max_steps"] < 1:
        raise GammaError(
            f"max_steps must be at least 1, not {values['max_steps']}; leave it out to train "
            "num_train_epochs"
        )
    for name, (usual, why) in _UNUSABLE.items():
        if values[name] != usual:
            raise GammaError(f"{name} has no place in a recipe: {why}; leave it out")
    if values["resume_from_checkpoint"]:
        raise GammaError(
            "resume_from_checkpoint has no effect here; give --resume to continue from the last "
            "checkpoint in output_dir"
        )
    folder = values["output_dir"]
    if folder is not None and (not folder.strip() or "\0" in folder):
        raise GammaError(f"output_dir {folder!r} is no name of a folder; give one, or leave it out")
    _check_decay(values)
    _check_engines(values)
    _check_reports(values["report_to"])
    if values["push_to_hub"]:
        _check_hub(values["hub_token"])
    elif values["hub_model_id"]:
        raise GammaError("hub_model_id has no effect without push_to_hub; leave it out or give it")


def check_metric(name: str, known: Sequence[str]) -> None:
    """Refuse a metric that no evaluation has, before an epoch has passed.

    Args:
        name: ``metric_for_best_model``, with or without ``eval_``.
        known: What evaluations of this run have.

    Raises:
        GammaError: It is none of them.
    """
    if name.removeprefix("eval_") not in known:
        hint = close_to(name.removeprefix("eval_"), known)
        raise GammaError(
            f"metric_for_best_model must be {' or '.join(known)}, not {name.removeprefix('eval_')}"
            f"{hint}"
        )


def _check_number(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise GammaError(f"{name} must be a finite number, not {value}")
    if name in _ABOVE_ZERO and value <= 0:
        raise GammaError(f"{name} must be above 0, not {value:g}")
    least, below = _LEAST.get(name), _BELOW.get(name)
    if least is not None and value < least:
        raise GammaError(f"{name} must be at least {least:g}, not {value:g}")
    if below is not None and value >= below:
        top = below - 1 if below == _SEEDS else below
        word = "at most" if below == _SEEDS else "below"
        raise GammaError(f"{name} must be {word} {top:.0f}, not {value:g}")


def _check_decay(values: Mapping[str, Any]) -> None:
    dose = values["dose"]
    policy = DecayPolicy.load(values["decay_policy"])
    mode = acting_mode(values["decay_mode"] or policy.mode, values.get("optim"))
    if dose is not None and not 0.0 < dose < 1.0:
        raise GammaError(f"dose must lie between 0 and 1, not {dose}; 0.1 is a pull of 10 %")
    if dose is not None and mode != "decoupled":
        raise GammaError(
            "dose needs a decoupled policy; give weight_decay for a coupled one, or decay_mode: "
            "decoupled"
        )


def acting_mode(mode: str, optim: Any) -> str:
    """Return whether decay is ``decoupled`` or ``coupled`` under an ``optim`` of the Trainer's."""
    if mode != "native":
        return mode
    family = str(getattr(optim, "value", optim)).partition("_")[0]
    return "coupled" if family in ("sgd", "adagrad", "rmsprop") else "decoupled"


def _check_engines(values: Mapping[str, Any]) -> None:
    deepspeed = values["deepspeed"]
    if deepspeed:
        if not is_installed("deepspeed"):
            raise GammaError(
                "deepspeed is not installed, and no extra of this package brings it; leave the "
                "setting deepspeed out, or: pip install deepspeed"
            )
        inline = isinstance(deepspeed, dict) or str(deepspeed).lstrip().startswith("{")
        if not inline and not Path(str(deepspeed)).is_file():
            raise GammaError(f"deepspeed: no file {str(deepspeed)[:100]!r}; give its JSON config")
    if deepspeed and values["fsdp"]:
        raise GammaError("give deepspeed or fsdp, not both")
    if values["use_liger_kernel"] and not is_installed("liger_kernel"):
        raise GammaError(
            "use_liger_kernel needs a package that is not installed: pip install liger-kernel; "
            "or leave it out"
        )
    if values["fp16"] and values["precision"] != "auto":
        raise GammaError(f"give fp16 or precision {values['precision']}, not both")
    if values["dataloader_persistent_workers"] and not values["dataloader_num_workers"]:
        raise GammaError("dataloader_persistent_workers needs dataloader_num_workers above 0")


def _check_reports(report_to: Any) -> None:
    from transformers.integrations import integration_utils as integrations

    words = [report_to] if isinstance(report_to, str) else list(report_to or ())
    known = integrations.INTEGRATION_TO_CALLBACK
    available = integrations.get_available_reporting_integrations()
    for word in words:
        if word in ("none", "all"):
            if len(words) > 1:
                raise GammaError(f"report_to {word} stands alone; leave it or the others out")
            continue
        if word not in known:
            names = sorted(known)
            hint = close_to(word, [*names, "none"]) or f"; it is one of {', '.join(names)}"
            raise GammaError(f"report_to: no log is called {word!r}{hint}")
        has_own_package = is_installed(_PACKAGES.get(word, word))
        if word not in available and not has_own_package:
            package = _PACKAGES.get(word, word)
            raise GammaError(
                f"report_to {word} needs a package that is not installed: pip install {package}; "
                "or give report_to none"
            )


_PACKAGES = {"azure_ml": "azureml-core", "comet_ml": "comet_ml", "flyte": "flytekit"}
"""Packages of logs that are not called as the log is."""


def _check_hub(token: str | None) -> None:
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise GammaError(
            "push_to_hub needs the hub, but HF_HUB_OFFLINE is set; unset it, or leave push_to_hub "
            "out"
        )
    if not (token or huggingface_hub.get_token()):
        raise GammaError(
            "push_to_hub needs a token of the hub: `hf auth login`, or hub_token; or leave "
            "push_to_hub out"
        )
