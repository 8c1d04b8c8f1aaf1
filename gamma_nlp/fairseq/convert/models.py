"""Build a model of one library with the weights of a model of the other.

Each library builds its own model, and loading is strict, so no weight can get lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq.convert import weights
from gamma_nlp.fairseq.convert.options import check_kind, config_fields, option_words
from gamma_nlp.tasks.translation.architecture import vocabulary_fields
from gamma_nlp.tasks.translation.text import END, PAD, UNKNOWN, TranslationText, word_tokenizer

FIRST = (weights.START, PAD, END, UNKNOWN)
"""The first tokens of every dictionary of fairseq."""


def as_tokenizer(dictionary: Any) -> Any:
    """Return a tokenizer with the words of a dictionary of fairseq, in order, ``<s>`` first."""
    return word_tokenizer([weights.START, *dictionary.symbols[len(FIRST) :]])


def as_dictionary(tokenizer: Any) -> Any:
    """Return a dictionary of fairseq with the words of a tokenizer, in order."""
    from fairseq.data import Dictionary

    dictionary = Dictionary()
    for word in _tokens(tokenizer):
        if word not in FIRST:
            dictionary.add_symbol(word)
    return dictionary


def as_transformers(model: Any, text: TranslationText, source: Any, target: Any) -> Any:
    """Return Marian or Pegasus with the weights of fairseq's model.

    Args:
        model: fairseq's model.
        text: Holds the tokenizers of the new model.
        source: fairseq's dictionary of the source language.
        target: fairseq's dictionary of the target language.

    Raises:
        GammaError: The model is pre-norm with two dictionaries, or transformers lacks an option.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    fields = config_fields(model.cfg)
    embeddings = [side.embed_tokens.weight for side in (model.encoder, model.decoder)]
    tied = model.decoder.output_projection.weight is embeddings[1]
    joint = embeddings[0] is embeddings[1]
    if fields["model_type"] == "marian":
        fields["decoder_vocab_size"] = len(target)
        fields["share_encoder_decoder_embeddings"] = joint
        fields["tie_word_embeddings"] = tied
    elif source == target:
        fields["tie_word_embeddings"] = joint and tied
    else:
        raise GammaError(
            "the checkpoint was trained with --encoder-normalize-before and a dictionary for each "
            "language, and Pegasus has one for both; train with --joined-dictionary, or translate "
            "with gamma-fairseq-generate"
        )
    config = AutoConfig.for_model(fields.pop("model_type"), **vocabulary_fields(text), **fields)
    converted = AutoModelForSeq2SeqLM.from_config(config)
    count = config.max_position_embeddings
    state = weights.to_transformers(
        model.state_dict(),
        {
            "encoder": weights.rows(_tokens(text.source), source.indices),
            "decoder": weights.rows(_tokens(text.target), target.indices),
        },
        {"encoder": _positions(model.encoder, count), "decoder": _positions(model.decoder, count)},
    )
    if hasattr(converted.model, "shared"):
        state["model.shared.weight"] = state["model.encoder.embed_tokens.weight"]
    converted.load_state_dict(state)
    return converted.eval()


def _positions(side: Any, count: int) -> torch.Tensor:
    """Return what a side of fairseq's model adds to its first ``count`` tokens: (count, width)."""
    width, module = side.embed_tokens.embedding_dim, side.embed_positions
    if module is None:
        return torch.zeros(count, width)
    if hasattr(module, "weight"):
        return weights.stored_positions(module.weight.detach(), count)
    return weights.sinusoids(count, width)


def _tokens(tokenizer: Any) -> list[str]:
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def check_convertible(model: Any, text: TranslationText, folder: Path) -> None:
    """Check that fairseq can hold every weight of a model.

    Raises:
        GammaError: An embedding table does not fit the vocabulary, or the output has a bias.
    """
    for side, tokenizer in zip(_sides(model), (text.source, text.target), strict=True):
        count = side.embed_tokens.num_embeddings
        if count != len(tokenizer):
            raise GammaError(
                f"the model in {folder} has a vocabulary of {count} tokens, text/ of "
                f"{len(tokenizer)}; make them equal with resize_token_embeddings"
            )
    if model.final_logits_bias.any():
        raise GammaError(
            f"the model in {folder} adds final_logits_bias to its output, which fairseq does not; "
            "only a model where it is zero can be converted"
        )


def matching_options(model: Any) -> list[str]:
    """Return the options of ``fairseq-train`` that build a model of the same shape.

    Raises:
        GammaError: fairseq has no such model.
    """
    check_kind(model.config)
    learned = not _has_computed_positions(model)
    return option_words(model.config, _sharing(model), learned=learned)


def _sides(model: Any) -> tuple[Any, Any]:
    return model.model.encoder, model.model.decoder


def _sharing(model: Any) -> str | None:
    source, target = (side.embed_tokens.weight for side in _sides(model))
    if model.lm_head.weight is not target:
        return None
    return "share-all-embeddings" if source is target else "share-decoder-input-output-embed"


def _has_computed_positions(model: Any) -> bool:
    """Return whether the positions are fairseq's sinusoids, up to another machine's rounding."""
    own = weights.sinusoids(model.config.max_position_embeddings, model.config.d_model)
    tables = (side.embed_positions.weight for side in _sides(model))
    return all(torch.allclose(table, own, atol=1e-6) for table in tables)


def as_checkpoint(
    model: Any, text: TranslationText, dictionaries: Mapping[str, Any], words: Sequence[str]
) -> dict[str, Any]:
    """Return what fairseq's trainer would save of a model before its first update.

    Args:
        model: Marian or Pegasus.
        text: Holds its tokenizers.
        dictionaries: fairseq's dictionary of each language.
        words: The model's :func:`matching_options`.
    """
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.tasks.translation import TranslationTask
    from omegaconf import OmegaConf

    languages = [text.source_language, text.target_language]
    typed = ["data-bin", "--source-lang", languages[0], "--target-lang", languages[1], *words]
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=typed)
    cfg = convert_namespace_to_omegaconf(arguments)
    source, target = (dictionaries[language] for language in languages)
    built = TranslationTask(cfg.task, source, target).build_model(cfg.model)
    tables = None
    if cfg.model.encoder_learned_pos:
        sides = zip(("encoder", "decoder"), _sides(model), strict=True)
        tables = {name: side.embed_positions.weight.detach() for name, side in sides}
    converted = weights.to_fairseq(
        model.state_dict(),
        {
            "encoder": weights.rows(source.symbols, text.source.get_vocab()),
            "decoder": weights.rows(target.symbols, text.target.get_vocab()),
        },
        tables,
    )
    built.load_state_dict({**dict(built.named_buffers()), **converted})
    names = {"criterion_name": "", "optimizer_name": ""}
    untrained = {**names, "lr_scheduler_state": {}, "num_updates": 0}
    return {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": built.state_dict(),
        "criterion": None,
        "optimizer_history": [untrained],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1}, "previous_training_time": 0},
    }
