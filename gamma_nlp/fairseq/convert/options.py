"""Map options of fairseq's ``transformer`` to config fields of Marian or Pegasus, and back."""

from __future__ import annotations

from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq.plan import dashed

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}
"""transformers' name of each of fairseq's activations."""

KINDS = {"marian": False, "pegasus": True}
"""transformers' architectures, and whether each is pre-norm."""

_ABSENT = (
    "layernorm_embedding",
    "adaptive_input",
    "adaptive_softmax_cutoff",
    "no_cross_attention",
    "cross_self_attention",
    "layer_wise_attention",
    "quant_noise_pq",
    "quant_noise_scalar",
    "encoder_layers_to_keep",
    "decoder_layers_to_keep",
    "encoder_xformers_att_config",
    "decoder_xformers_att_config",
    "base_layers",
    "char_inputs",
    "scale_attn",
    "scale_heads",
    "scale_fc",
    "scale_resids",
)
"""Options that neither architecture has; all are off or empty by default."""

_NUMBERS = {
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_attention_heads": "encoder_attention_heads",
    "decoder_attention_heads": "decoder_attention_heads",
    "encoder_ffn_embed_dim": "encoder_ffn_dim",
    "decoder_ffn_embed_dim": "decoder_ffn_dim",
    "encoder_layerdrop": "encoder_layerdrop",
    "decoder_layerdrop": "decoder_layerdrop",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
"""transformers' field for each option that is the same number in both."""


def config_fields(cfg: Any) -> dict[str, Any]:
    """Return config fields with ``model_type``, like ``model_config`` of the translation recipe.

    transformers has one ``max_position_embeddings`` for both sides. Where fairseq computes
    positions it is the larger of ``--max-source-positions`` and ``--max-target-positions``; where
    it learned them, the shorter table's length.

    Args:
        cfg: A ``TransformerConfig``.

    Raises:
        GammaError: Neither Marian nor Pegasus has an option of the model, which is named.
    """
    for name in _ABSENT:
        if getattr(cfg, name, None):
            _refuse(name)
    before = cfg.encoder.normalize_before
    if before != cfg.decoder.normalize_before:
        _refuse("encoder_normalize_before", "with one side only; give both sides or none")
    if before and cfg.no_decoder_final_norm:
        _refuse("no_decoder_final_norm")
    width = cfg.encoder.embed_dim
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim"):
        if int(getattr(cfg, name)) != width:
            _refuse(
                name, f"{getattr(cfg, name)} beside --encoder-embed-dim {width}; make them equal"
            )
    if cfg.activation_fn not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        _refuse("activation_fn", f"{cfg.activation_fn}; these can be converted: {known}")
    fields = {field: getattr(cfg, option) for option, field in _NUMBERS.items()}
    fields["activation_dropout"] = cfg.activation_dropout or cfg.relu_dropout or 0.0
    return {
        "model_type": "pegasus" if before else "marian",
        "d_model": width,
        **fields,
        "activation_function": ACTIVATIONS[cfg.activation_fn],
        "max_position_embeddings": _positions(cfg),
        "scale_embedding": not cfg.no_scale_embedding,
    }


def _refuse(name: str, value: str = "") -> None:
    raise GammaError(
        f"the checkpoint was trained with {dashed(name)}{value and ' '}{value}: neither Marian "
        "nor Pegasus of transformers has that. Train without it, or translate with "
        "gamma-fairseq-generate"
    )


def _positions(cfg: Any) -> int:
    lengths = (cfg.max_source_positions, cfg.max_target_positions)
    sides = (cfg.encoder, cfg.decoder)
    learned = [length for length, side in zip(lengths, sides, strict=True) if side.learned_pos]
    if cfg.no_token_positional_embeddings:
        learned = []
    return int(min(learned) if learned else max(lengths))


def check_kind(config: Any) -> None:
    """Check that fairseq has a model's architecture and activation.

    Raises:
        GammaError: It lacks one of them.
    """
    if config.model_type not in KINDS:
        raise GammaError(
            f"model_type {config.model_type} has no counterpart in fairseq; these have: "
            "marian (post-norm) and pegasus (pre-norm)"
        )
    if config.activation_function not in ACTIVATIONS.values():
        raise GammaError(
            f"activation_function {config.activation_function} is not in fairseq; these are: "
            f"{', '.join(dict.fromkeys(ACTIVATIONS.values()))}"
        )


def option_words(config: Any, sharing: str | None, *, learned: bool) -> list[str]:
    """Return the options of ``fairseq-train`` that build the same model.

    Args:
        config: Of Marian or Pegasus, see :func:`check_kind`.
        sharing: ``share-all-embeddings``, ``share-decoder-input-output-embed`` or ``None``.
        learned: Whether positions are learned.
    """
    activations = {field: option for option, field in reversed(ACTIVATIONS.items())}
    length = config.max_position_embeddings
    values = {
        "arch": "transformer",
        "encoder_embed_dim": config.d_model,
        "decoder_embed_dim": config.d_model,
        **{option: getattr(config, field) for option, field in _NUMBERS.items()},
        "activation_fn": activations[config.activation_function],
        "max_source_positions": length,
        "max_target_positions": length,
    }
    flags = {
        "encoder_normalize_before": KINDS[config.model_type],
        "decoder_normalize_before": KINDS[config.model_type],
        "no_scale_embedding": not config.scale_embedding,
        "encoder_learned_pos": learned,
        "decoder_learned_pos": learned,
    }
    words = [part for name, value in values.items() for part in (dashed(name), str(value))]
    words += [dashed(name) for name, on in flags.items() if on]
    return words + ([f"--{sharing}"] if sharing else [])
