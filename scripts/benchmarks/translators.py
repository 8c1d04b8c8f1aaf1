"""What the benchmarks of translation train: text, models of few sizes, and our trainer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.read import read_bytes
from gamma_nlp.hf.batches.budget import TokenBudget
from gamma_nlp.hf.batches.shapes import MOST_SHAPES
from gamma_nlp.tasks.translation.architecture import build_translator
from gamma_nlp.tasks.translation.data import PairData
from gamma_nlp.tasks.translation.decode import Search
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from gamma_nlp.tasks.translation.trainer import TranslationTrainer

# Width, width of the feed-forward parts, layers of encoder and of decoder; base is fairseq's
# transformer_iwslt_de_en.
SIZES = {"tiny": (128, 256, 4), "base": (512, 1024, 6), "quick": (16, 32, 1)}
HEADS = 4
SMOOTHING = 0.1


def read_text(folder: Path) -> TranslationText:
    """Read a prepared folder, with its first language as the source."""
    try:
        one, two = json.loads(read_bytes(folder / "manifest.json"))["languages"]
    except (ValueError, KeyError, TypeError) as error:
        raise GammaError(
            f"{folder / 'manifest.json'} does not name two languages ({one_line(error)}); give "
            "the folder that scripts/prepare_iwslt14 wrote"
        ) from error
    return read_prepared(folder, one, two, joint=True)


def model_fields(size: str) -> dict[str, Any]:
    """Return the config fields of a size, as a recipe's ``model_config`` has them."""
    width, wide, layers = SIZES[size]
    return {
        "model_type": "marian",
        "d_model": width,
        "encoder_ffn_dim": wide,
        "decoder_ffn_dim": wide,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "activation_function": "relu",
        "max_position_embeddings": 1024,
        "init_std": width**-0.5,
        "scale_embedding": True,
    }


def build(size: str, text: TranslationText) -> Any:
    """Return a Marian model with random weights, the same each time."""
    torch.manual_seed(0)
    settings = {
        **model_fields(size),
        # Our trainer turns the cache off by itself; the stock one would pay for it.
        "use_cache": False,
    }
    return build_translator(settings, text)


def our_trainer(
    options: argparse.Namespace,
    model: Any,
    text: TranslationText,
    data: PairData,
    folder: str,
    collate: Any,
    **changes: Any,
) -> TranslationTrainer:
    return TranslationTrainer(
        model,
        settings(options, folder, **changes),
        collate,
        data,
        token_budget=token_budget(options),
        pair_lengths=data.lengths,
        text=text,
        search=Search(),
    )


def settings(options: argparse.Namespace, folder: str, **changes: Any) -> Any:
    return transformers.Seq2SeqTrainingArguments(
        output_dir=folder,
        label_smoothing_factor=SMOOTHING,
        learning_rate=5e-4,
        weight_decay=1e-4,
        adam_beta2=0.98,
        bf16=options.cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not options.cuda,
        dataloader_pin_memory=options.cuda,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **changes,
    )


def token_budget(options: argparse.Namespace) -> TokenBudget:
    few = MOST_SHAPES if options.batch_shapes == "few" else None
    return TokenBudget(max_tokens=options.max_tokens, skip_long=True, max_shapes=few)
