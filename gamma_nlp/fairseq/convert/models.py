"""A model of either library with the weights of one of the other.

Both models are built, each by its own library, and all weights must find their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq.convert import weights as convert
from gamma_nlp.fairseq.convert.options import check_kind, config_fields, option_words
from gamma_nlp.tasks.translation.architecture import vocabulary_fields
from gamma_nlp.tasks.translation.text import END, PAD, UNKNOWN, TranslationText, word_tokenizer

FIRST = (convert.START, PAD, END, UNKNOWN)
"""The first tokens of every dictionary of fairseq."""


def as_tokenizer(dictionary: Any) -> Any:
    """A tokenizer with the words of a dictionary of fairseq, in their order; ``<s>`` is one."""
    return word_tokenizer([convert.START, *dictionary.symbols[len(FIRST) :]])


def as_dictionary(tokenizer: Any) -> Any:
    """A dictionary of fairseq with the words of a tokenizer, in their order."""
    from fairseq.data import Dictionary

    dictionary = Dictionary()
    for word in _tokens(tokenizer):
        if word not in FIRST:
            dictionary.add_symbol(word)
    return dictionary


def as_transformers(model: Any, text: TranslationText, source: Any, target: Any) -> Any:
    """Marian or Pegasus with the weights of fairseq's model.

    Args:
        model: Of fairseq.
        text: Has the tokenizers of the new model.
        source: fairseq's dictionary.
        target: The same, of the target language.

    Raises:
        GammaError: Pre-norm with two dictionaries, or an option that cannot be expressed.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    fields = config_fields(model.cfg)
    embeddings = [side.embed_tokens.weight for side in (model.encoder, model.decoder)]
    tied = model.decoder.output_projection.weight is embeddings[1]
    one = embeddings[0] is embeddings[1]
    if fields["model_type"] == "marian":
        fields["decoder_vocab_size"] = len(target)
        fields["share_encoder_decoder_embeddings"] = one
        fields["tie_word_embeddings"] = tied
    elif source == target:
        fields["tie_word_embeddings"] = one and tied
    else:
        raise GammaError(
            "the checkpoint was trained with --encoder-normalize-before and a dictionary for each "
            "language, and Pegasus has one for both; train with --joined-dictionary, or translate "
            "with gamma-fairseq-generate"
        )
    config = AutoConfig.for_model(fields.pop("model_type"), **vocabulary_fields(text), **fields)
    converted = AutoModelForSeq2SeqLM.from_config(config)
    count = config.max_position_embeddings
    weights = convert.to_transformers(
        model.state_dict(),
        {
            "encoder": convert.rows(_tokens(text.source), source.indices),
            "decoder": convert.rows(_tokens(text.target), target.indices),
        },
        {"encoder": _table(model.encoder, count), "decoder": _table(model.decoder, count)},
    )
    if hasattr(converted.model, "shared"):
        weights["model.shared.weight"] = weights["model.encoder.embed_tokens.weight"]
    converted.load_state_dict(weights)
    return converted.eval()


def _table(side: Any, count: int) -> torch.Tensor:
    """What one side of fairseq's model adds to its first tokens, of shape (count, width)."""
    width, module = side.embed_tokens.embedding_dim, side.embed_positions
    if module is None:
        return torch.zeros(count, width)
    if hasattr(module, "weight"):
        return convert.stored_positions(module.weight.detach(), count)
    return convert.sinusoids(count, width)


def _tokens(tokenizer: Any) -> list[str]:
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def check_convertible(model: Any, text: TranslationText, folder: Path) -> None:
    """Insist that fairseq can hold every weight of a model.

    Raises:
        GammaError: A table has other rows than the vocabulary, or the output has a bias.
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
    """The options of ``fairseq-train`` that build a model of the same shape.

    Raises:
        GammaError: fairseq has no such model.
    """
    check_kind(model.config)
    return option_words(model.config, _sharing(model), learned=not _computed(model))


def _sides(model: Any) -> tuple[Any, Any]:
    return model.model.encoder, model.model.decoder


def _sharing(model: Any) -> str | None:
    source, target = (side.embed_tokens.weight for side in _sides(model))
    if model.lm_head.weight is not target:
        return None
    return "share-all-embeddings" if source is target else "share-decoder-input-output-embed"


def _computed(model: Any) -> bool:
    """Whether the positions are those that fairseq computes, but for another machine's rounding."""
    own = convert.sinusoids(model.config.max_position_embeddings, model.config.d_model)
    tables = (side.embed_positions.weight for side in _sides(model))
    return all(torch.allclose(table, own, atol=1e-6) for table in tables)


def as_checkpoint(
    model: Any, text: TranslationText, dictionaries: Mapping[str, Any], words: Sequence[str]
) -> dict[str, Any]:
    """What fairseq's trainer would save of a model before its first update.

    Args:
        model: Marian or Pegasus.
        text: Has its tokenizers.
        dictionaries: fairseq's, by language.
        words: Of :func:`matching_options`.
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
    weights = convert.to_fairseq(
        model.state_dict(),
        {
            "encoder": convert.rows(source.symbols, text.source.get_vocab()),
            "decoder": convert.rows(target.symbols, text.target.get_vocab()),
        },
        tables,
    )
    built.load_state_dict({**dict(built.named_buffers()), **weights})
    none = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    return {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": built.state_dict(),
        "criterion": None,
        "optimizer_history": [none],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1}, "previous_training_time": 0},
    }
