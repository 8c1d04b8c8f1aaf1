"""Options of fairseq's ``transformer`` as config fields of Marian or Pegasus, and back."""

from __future__ import annotations

from typing import Any

from gamma_nlp.errors import GammaError

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}
"""fairseq's name of an activation, and transformers'."""

KINDS = {"marian": False, "pegasus": True}
"""The architectures of transformers, and whether they normalise before each block."""

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
"""Options that no architecture of transformers expresses, off or empty by default."""

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
"""What is a number in both: fairseq's option, transformers' field."""


def config_fields(cfg: Any) -> dict[str, Any]:
    """Config fields with ``model_type``, as ``model_config`` of the translation recipe has them.

    ``max_position_embeddings`` is one number in transformers. It is the larger of
    ``--max-source-positions`` and ``--max-target-positions`` where fairseq computes positions; a
    table that it learned ends somewhere, so it is the length of the shorter one then.

    Args:
        cfg: A ``TransformerConfig``.

    Raises:
        GammaError: Names an option that neither Marian nor Pegasus expresses.
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
            _refuse(name, f"{getattr(cfg, name)} beside --encoder-embed-dim {width}; make them one")
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
        f"the checkpoint was trained with --{name.replace('_', '-')}{value and ' '}{value}: "
        "neither Marian nor Pegasus of transformers has that. Train without it, or translate with "
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
    """Insist on an architecture that fairseq has.

    Raises:
        GammaError: It is another one, or its activation is another one.
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
    """The options of ``fairseq-train`` that build the same model.

    Args:
        config: Of Marian or Pegasus, see :func:`check_kind`.
        sharing: ``share-all-embeddings``, ``share-decoder-input-output-embed`` or ``None``.
        learned: Positions are a table of their own.
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
    words = [part for name, value in values.items() for part in (_option(name), str(value))]
    words += [_option(name) for name, on in flags.items() if on]
    return words + ([f"--{sharing}"] if sharing else [])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
