"""A classifier from a name, a folder, or a config and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gamma_nlp.decay.assign import decays_for, table_for
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.tasks.glue.labels import class_order, reorder_classes
from gamma_nlp.tasks.glue.pretrained import (
    check_architecture,
    check_weights,
    has_new_head,
    locate,
)
from gamma_nlp.tasks.glue.tasks import GlueTask
from gamma_nlp.tasks.run.finite import check_finite
from gamma_nlp.tasks.run.model_config import build_config, build_model
from gamma_nlp.tasks.run.vocabulary import check_vocabulary


def load_classifier(source: str, task: GlueTask, tokenizer: Any) -> Any:
    """Load a pretrained model with a classification head for the task, in fp32.

    A head that comes with the model is put in the order of the task's labels, by their names.

    Raises:
        GammaError: It does not exist, cannot have such a head or has that of another task, its
            weights are not numbers or do not fit, or the tokenizer is not its own.
    """
    import transformers

    where = locate(source)
    name = f"model {source!r}"
    try:
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        check_architecture(config, name)
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            where,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            trust_remote_code=False,
            **_head(task),
        )
    except GammaError:
        raise
    except Exception as error:
        reason = one_line(error, file=True)
        raise GammaError(f"cannot load {source!r} as a classifier: {reason}") from error
    check_weights(model, found, config, name, task)
    if not task.regression and not has_new_head(model, found, task):
        order = class_order(config.id2label, task, name)
        if order is not None:
            reorder_classes(model, order, name)
    check_finite(model, name)
    check_vocabulary(tokenizer.get_vocab().values(), model, f"{source!r}", "the model")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model


def check_decays(source: str, task: GlueTask, policy: DecayPolicy) -> None:
    """Refuse a policy that decays a gain of a model by 0, before its weights are loaded.

    Raises:
        GammaError: It would.
    """
    import torch
    import transformers

    where = locate(source)
    try:
        config = transformers.AutoConfig.from_pretrained(
            where, trust_remote_code=False, **_head(task)
        )
        with torch.device("meta"):
            model = transformers.AutoModelForSequenceClassification.from_config(
                config, trust_remote_code=False
            )
    except Exception:  # loading it will say what is wrong
        return
    decays_for(model, weight_decay=0.0, policy=policy, table=table_for(model, None, None, policy))


def build_classifier(settings: Mapping[str, Any], task: GlueTask, tokenizer: Any) -> Any:
    """Build a randomly initialised model from config fields; ``model_type`` is the architecture.

    Raises:
        GammaError: There is no such architecture, or the fields do not fit it.
    """
    import transformers

    if isinstance(settings.get("vocab_size"), int) and settings["vocab_size"] < len(tokenizer):
        raise GammaError(
            f"model_config: vocab_size {settings['vocab_size']} is below the tokenizer's "
            f"{len(tokenizer)}; leave it out to take the tokenizer's"
        )
    defaults = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    config = build_config(
        settings,
        fixed={"num_labels": task.num_labels, **_head(task)},
        defaults=defaults,
        why="the task",
        example="bert",
    )
    if getattr(config, "is_encoder_decoder", False):
        raise GammaError(
            f"model_config: {config.model_type} is an encoder-decoder, which classifies at an end "
            "token that this vocabulary does not have; take bert or modernbert"
        )
    model = build_model(
        transformers.AutoModelForSequenceClassification,
        config,
        what="classifier of text",
        instead="bert (post-norm) or modernbert (pre-norm)",
    )
    check_finite(model, "the model that model_config makes")
    check_vocabulary(tokenizer.get_vocab().values(), model, "this run", "model_config")
    return model


def _head(task: GlueTask) -> dict[str, Any]:
    if task.regression:
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
        "problem_type": "single_label_classification",
    }
