"""Random token ids, for an encoder, a decoder, or a model beside them."""

from __future__ import annotations

from typing import Any

import torch

from gamma_nlp.graph.guess.reader import ANY, Reader

TOKENS = 8
CODEBOOKS = ("musicgen_decoder", "musicgen_melody_decoder")  # read a row of ids for each codebook


def token_ids(reader: Reader, *parts: str, length: int = TOKENS) -> torch.Tensor:
    """Return one row of ids without special tokens, but for the end token at its end.

    Args:
        reader: The model.
        parts: Words in the name of the nested config that has the vocabulary; the text's by
            default.
        length: Number of tokens.
    """
    config = reader.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = reader.get("vocab_size", of=parts) if parts else getattr(text, "vocab_size", None)
    size = size or reader.get("vocab_size", of=ANY, default=32)
    special = {
        value
        for key, value in (*config.to_dict().items(), *text.to_dict().items())
        if key.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    allowed = [i for i in range(min(size, 1000)) if i not in special] or list(range(size))
    picks = torch.randint(len(allowed), (1, length), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor(allowed)[picks]
    end = getattr(text, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < size:
        ids[0, -1] = end  # classifiers on a decoder read the state of the end token
    return ids


def text_inputs(reader: Reader) -> dict[str, Any]:
    """Return token ids for a model that reads text, alone or among other things."""
    if not reader.takes("input_ids"):
        return {}
    ids = token_ids(reader)
    if reader.config.model_type in CODEBOOKS:
        return {"input_ids": ids.repeat(reader.number("num_codebooks"), 1)}
    streams = reader.number("num_codebooks") if reader.get("codebook_vocab_size") else 0
    return {"input_ids": ids[..., None].repeat(1, 1, streams + 1) if streams else ids}


def decoder_inputs(reader: Reader) -> dict[str, Any]:
    """Return token ids for a decoder that stands beside an encoder."""
    both = getattr(reader.config, "is_encoder_decoder", False) or hasattr(
        reader.model, "text_decoder"
    )
    if not both or not reader.takes("decoder_input_ids"):
        return {}
    ids = token_ids(reader)
    streams = reader.number("num_channels", of=("decoder",))
    return {"decoder_input_ids": ids[..., None].repeat(1, 1, streams) if streams else ids}
