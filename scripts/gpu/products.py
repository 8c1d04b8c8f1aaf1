"""Operations of a translation model, from the sizes of its products of matrices and no padding."""

from __future__ import annotations

from typing import Any

import numpy as np


def operations(config: Any, source: np.ndarray, target: np.ndarray) -> float:
    """Return the operations of a forward and a backward pass over pairs of these lengths.

    A multiplication and an addition are two; the backward pass has two products for each of the
    forward pass. What is padded or computed again is not counted: it is work that need not be.

    Args:
        config: Of a Marian model.
        source: Tokens of each source.
        target: Tokens of each target.
    """
    s, t, width = np.asarray(source, float), np.asarray(target, float), config.d_model
    encoder = s * (4 * width**2 + 2 * width * config.encoder_ffn_dim) + 2 * width * s**2
    decoder = t * (6 * width**2 + 2 * width * config.decoder_ffn_dim) + 2 * width * t * (t + s)
    across = s * 2 * width**2
    output = t * width * (config.decoder_vocab_size or config.vocab_size)
    each = config.encoder_layers * encoder + config.decoder_layers * (decoder + across) + output
    return float(2 * 3 * each.sum())
