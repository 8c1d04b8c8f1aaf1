"""Load a checkpoint of fairseq's ``transformer``, if it can be converted."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.fairseq.convert.options import config_fields


def read_checkpoint(checkpoint: Path, data: Path) -> tuple[Any, Any]:
    """Return a checkpoint's model, in float32 on the CPU, and its task with the dictionaries.

    fairseq itself loads it, so checkpoints of older releases (``args`` instead of ``cfg``, other
    names for weights) work too.

    Args:
        checkpoint: A ``.pt`` file.
        data: A folder with ``dict.LANGUAGE.txt``.

    Raises:
        GammaError: A path is wrong, checkpoint and data do not belong together, or
            :func:`~gamma_nlp.fairseq.convert.options.config_fields` cannot express the model.
    """
    from fairseq import checkpoint_utils, tasks
    from fairseq.models.transformer import TransformerConfig

    state = _state(checkpoint, data)
    cfg = state["cfg"]
    _check_kind(checkpoint, cfg)
    config_fields(TransformerConfig.from_namespace(cfg.model))
    for language in _languages(cfg.task, checkpoint, data):
        if not (data / f"dict.{language}.txt").is_file():
            raise GammaError(
                f"--data {data} has no dict.{language}.txt; give the --destdir of "
                "gamma-fairseq-preprocess that the model was trained on"
            )
    try:
        task = tasks.setup_task(cfg.task)
    except Exception as error:
        reason = one_line(error, file=True)
        raise GammaError(f"the dictionaries in {data} cannot be read: {reason}") from error
    _check_sizes(checkpoint, data, state["model"], task)
    try:
        (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task(
            [str(checkpoint)], task=task, state=state
        )
    except Exception as error:
        raise _unreadable(checkpoint, error) from error
    if model.cfg.encoder.normalize_before and model.decoder.layer_norm is None:
        raise GammaError(
            f"{checkpoint} is from a fairseq that did not normalise after the last layer, as "
            "Pegasus does; translate with gamma-fairseq-generate"
        )
    return model, task


def _state(checkpoint: Path, data: Path) -> Any:
    from fairseq import checkpoint_utils

    if not checkpoint.is_file():
        raise GammaError(f"there is no checkpoint {checkpoint}; give a .pt file of fairseq-train")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), {"data": str(data)})
        _ = state["cfg"].model, state["cfg"].task, state["model"].keys()
    except Exception as error:  # a damaged or foreign file fails in many ways
        raise _unreadable(checkpoint, error) from error
    return state


def _check_kind(checkpoint: Path, cfg: Any) -> None:
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY
    from fairseq.models.transformer import base_architecture

    name = getattr(cfg.model, "arch", None) or cfg.model._name
    if ARCH_MODEL_NAME_REGISTRY.get(name, name) != "transformer" or cfg.task._name != "translation":
        raise GammaError(
            f"{checkpoint} has --arch {name} and --task {cfg.task._name}; only fairseq's "
            "transformer of the task translation can be converted"
        )
    if isinstance(cfg.model, Namespace):
        base_architecture(cfg.model)  # defaults for options an older release did not have


def _languages(task: Any, checkpoint: Path, data: Path) -> tuple[str, str]:
    """Return both languages; a run without options for them took them from the data's names."""
    from fairseq.data.data_utils import infer_language_pair

    if not data.is_dir():
        raise GammaError(
            f"there is no folder {data}; give the --destdir of gamma-fairseq-preprocess"
        )
    if task.source_lang is None or task.target_lang is None:
        task.source_lang, task.target_lang = infer_language_pair(str(data))
    if task.source_lang is None or task.target_lang is None:
        raise GammaError(
            f"neither {checkpoint} nor the files in {data} name the languages; give the --destdir "
            "of gamma-fairseq-preprocess, with train.*.bin"
        )
    return task.source_lang, task.target_lang


def _check_sizes(checkpoint: Path, data: Path, weights: Any, task: Any) -> None:
    sides = {"encoder": task.source_dictionary, "decoder": task.target_dictionary}
    for side, dictionary in sides.items():
        count = len(weights.get(f"{side}.embed_tokens.weight", dictionary))
        if count != len(dictionary):
            raise GammaError(
                f"the {side} of {checkpoint} has {count} tokens, the dictionary in {data} "
                f"{len(dictionary)}; give the --data that the model was trained on"
            )


def _unreadable(checkpoint: Path, error: Exception) -> GammaError:
    return GammaError(
        f"{checkpoint} cannot be loaded as a model of fairseq's transformer: "
        f"{one_line(error, file=True)}"
    )
