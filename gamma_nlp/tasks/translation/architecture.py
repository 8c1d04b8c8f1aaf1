"""An encoder-decoder model of transformers from config fields, sized to its vocabularies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.finite import check_finite
from gamma_nlp.tasks.run.model_config import build_config, build_model
from gamma_nlp.tasks.translation.text import END, PAD, TranslationText


def build_translator(settings: Mapping[str, Any], text: TranslationText) -> Any:
    """Build a randomly initialised model; ``model_type`` says which architecture.

    Marian can have a vocabulary for each language; all others share one.

    Args:
        settings: Config fields. Sizes of vocabularies and special ids come from ``text``.
        text: The vocabularies.

    Raises:
        GammaError: There is no such architecture, it is not an encoder-decoder that trains from
            labels alone, or a field contradicts ``text``.
    """
    import transformers

    kind = settings.get("model_type")
    fixed = vocabulary_fields(text)
    if kind == "marian":
        fixed |= {
            "decoder_vocab_size": len(text.target),
            "share_encoder_decoder_embeddings": text.joint,
        }
    elif kind is not None and not text.joint:
        raise GammaError(
            f"joint_vocabulary: false needs model_type marian, not {kind}; set it to true"
        )
    config = build_config(settings, fixed=fixed, why="the data", example="marian")
    model = build_model(
        transformers.AutoModelForSeq2SeqLM,
        config,
        what="encoder-decoder of text",
        instead="marian (post-norm) or pegasus (pre-norm)",
    )
    check_finite(model, "the model that model_config makes")
    if not hasattr(model, "prepare_decoder_input_ids_from_labels"):
        raise GammaError(
            f"model_config: {kind} does not make decoder inputs from labels, as training needs; "
            "take marian or bart (post-norm), pegasus or mbart (pre-norm)"
        )
    return model


def vocabulary_fields(text: TranslationText) -> dict[str, Any]:
    """Return the config fields, of any architecture, that follow from the vocabularies."""
    ids = text.target.get_vocab()
    return {
        "vocab_size": len(text.source),
        "pad_token_id": ids[PAD],
        "bos_token_id": ids[END],
        "eos_token_id": ids[END],
        # The decoder starts with the end token, as fairseq's does.
        "decoder_start_token_id": ids[END],
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
    }


def check_lengths(model: Any, lengths: Iterable[tuple[str, int]]) -> None:
    """Raise if a sentence is too long for the model, before an hour of training has passed.

    Args:
        model: Has ``config.max_position_embeddings``, or no limit.
        lengths: Name of a split and its longest sentence in tokens.

    Raises:
        GammaError: A sentence is longer than the model has positions.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, longest in lengths:
        if limit is not None and longest > limit:
            raise GammaError(
                f"a sentence of {name} has {longest} tokens, more than the {limit} positions of "
                f"the model; set max_position_embeddings in model_config to {longest} or more"
            )
