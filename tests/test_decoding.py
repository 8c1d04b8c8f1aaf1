"""Beam search in batches: order, lengths, what is taken from a model and what is not."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

from gamma_nlp.decoding import Search, decode

PAD, END, WORDS, POSITIONS = 0, 1, 40, 32
FAMILIES = {
    "marian": (MarianConfig, MarianMTModel),
    "m2m100": (M2M100Config, M2M100ForConditionalGeneration),
    "pegasus": (PegasusConfig, PegasusForConditionalGeneration),
    "bart": (BartConfig, BartForConditionalGeneration),
}


def build(family: str = "marian", end_bias: float = 1.5, **settings: Any) -> Any:
    """A random model in float64, in which no two batch shapes round a choice differently."""
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(0)
    config = config_class(
        **{
            "vocab_size": WORDS,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": POSITIONS,
            "pad_token_id": PAD,
            "eos_token_id": END,
            "decoder_start_token_id": END,
            "init_std": 0.3,
            **settings,
        }
    )
    model = model_class(config).double()
    # Random models seldom stop; with this the end mark is often among the likeliest tokens.
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(WORDS, dtype=torch.float64))
    with torch.no_grad():
        head.bias[END] = end_bias
    return model


def sentences(number: int = 24, longest: int = 12) -> list[list[int]]:
    """Random sentences of 1 to ``longest`` tokens, the first without a word."""
    rng = random.Random(0)
    lengths = [0, *(rng.randrange(longest) for _ in range(number - 1))]
    return [[*(rng.randrange(3, WORDS) for _ in range(length)), END] for length in lengths]


def most(search: Search, source: list[int]) -> int:
    return int(search.max_length_a * len(source) + search.max_length_b)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 4])
def test_a_sentence_is_translated_alike_alone_and_in_any_batch(family: str, beams: int) -> None:
    model, sources = build(family), sentences()
    search = Search(beams=beams, max_length_a=1.0, max_length_b=6, max_tokens=400)
    together = decode(model, sources, search)
    assert together == [decode(model, [source], search)[0] for source in sources]
    ended = [len(ids) < most(search, source) for ids, source in zip(together, sources, strict=True)]
    assert sum(ended) >= 4
