"""Train a small language model from scratch on Python's own sources, under a decay policy.

    python -m recipes.studies.language_model --norms pre --qk_norm true --decay_policy all \\
        --dose 0.5 --seed 1 --output_dir runs/one

The text is the standard library of the Python that runs it, so nothing is downloaded. The model is
transformers' Llama or Qwen3 (pre-norm, without and with q/k norm) or Gemma 2 or 3 (sandwich norms),
made small. A run takes about 23 s of one core and writes ``results.json`` with what the
loss was on every window of the validation set. ``--help`` lists all keys, the Trainer's among them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gamma_nlp.tasks.run.arguments import RunArguments
from gamma_nlp.tasks.run.items import Items, Source, items_file
from gamma_nlp.tasks.run.main import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from recipes.studies.corpus import Corpus
    from recipes.studies.training import Setup

DEFAULTS = {
    "max_steps": "500",
    "per_device_train_batch_size": "4",
    "per_device_eval_batch_size": "32",
    "learning_rate": "1e-2",
    "warmup_steps": "50",
    "lr_scheduler_type": "linear",
    "adam_beta2": "0.98",
    "eval_strategy": "steps",
    "eval_steps": "250",
    "logging_steps": "25",
    "cpu_threads": "1",
}
"""The setting of the shipped studies."""


@dataclass(kw_only=True)
class LanguageArguments(RunArguments):
    """What a run needs besides the Trainer's own arguments."""

    norms: Literal["pre", "sandwich"] = field(
        default="pre", metadata={"help": "before each branch, or before and after it (Gemma)"}
    )
    qk_norm: bool = field(default=False, metadata={"help": "normalise queries and keys"})
    corpus: str = field(
        default="runs/corpus", metadata={"help": "folder that keeps the text in tokens"}
    )
    sources: str | None = field(
        default=None, metadata={"help": "folder of Python sources; default: the standard library's"}
    )
    vocabulary: int = field(default=512, metadata={"help": "tokens of the byte-level BPE"})
    width: int = field(default=64, metadata={"help": "width of the stream, a multiple of 32"})
    layers: int = field(default=4, metadata={"help": "number of layers"})
    context: int = field(default=128, metadata={"help": "tokens of a window"})
    windows: int = field(default=256, metadata={"help": "windows to evaluate on"})


def main(argv: Sequence[str] | None = None) -> int:
    return run(_main, argv)


def _main(argv: Sequence[str]) -> None:
    from gamma_nlp.tasks.run.doses import gain_lines
    from recipes.studies.training import read_arguments, run_study

    recipe, args = read_arguments(
        LanguageArguments, argv, DEFAULTS, "runs/language-model/{decay_policy}-seed{seed}"
    )
    results = run_study(recipe, args, setup(recipe, args))
    final = results["final"]
    print(
        f"\nloss {final['eval_loss']:.4f} nats a token, {final['eval_bits_per_byte']:.4f} bits a "
        "byte",
        *gain_lines(results),
        sep="\n",
    )


def setup(recipe: LanguageArguments, args: Any) -> Setup:
    """Return what a run trains on: windows in the seed's order, the same for every policy."""
    import numpy as np
    import torch

    from recipes.studies.corpus import load_corpus, standard_library
    from recipes.studies.training import Rows, Setup

    corpus = load_corpus(
        standard_library() if recipe.sources is None else Path(recipe.sources),
        keep_in=Path(recipe.corpus),
        vocabulary=recipe.vocabulary,
        length=recipe.context,
        windows=recipe.windows,
    )
    wanted = args.max_steps * args.train_batch_size
    draw = np.random.default_rng(args.seed)
    rounds = -(-wanted // len(corpus.train))
    order = np.concatenate([draw.permutation(len(corpus.train)) for _ in range(rounds)])[:wanted]

    def rows(windows: Any) -> Rows:
        ids = torch.from_numpy(windows.astype(np.int64))
        return Rows(input_ids=ids, labels=ids)

    predicted = corpus.bytes_of[corpus.validation[:, 1:]].sum(axis=1)
    return Setup(
        task="language-model",
        model=f"{recipe.norms}-norm, {'with' if recipe.qk_norm else 'without'} q/k norm",
        build=lambda: make_model(recipe, corpus.vocabulary),
        train=rows(corpus.train[order]),
        evaluation={"validation": rows(corpus.validation)},
        outcome=window_losses,
        score=lambda losses: {"bits_per_byte": losses.sum() / predicted.sum() / math.log(2)},
        items=lambda kept: outcomes(corpus, kept["validation"].reshape(-1), predicted),
        data=corpus.digests(),
    )


def make_model(recipe: LanguageArguments, vocabulary: int) -> nn.Module:
    """Return a model in which nothing but norms differs from the others of its size.

    All attend to the whole window, without soft caps, and tie input and output embedding.
    """
    import transformers

    shape: dict[str, Any] = dict(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // 32,
        num_key_value_heads=recipe.width // 32,
        head_dim=32,
        max_position_embeddings=recipe.context,
        hidden_act="silu",
        hidden_activation="silu",
        rms_norm_eps=1e-6,
        initializer_range=0.08,  # learns faster at this width than the usual 0.02
        tie_word_embeddings=True,
        use_cache=False,
    )
    if recipe.norms == "pre":
        name = "Qwen3" if recipe.qk_norm else "Llama"
        made = getattr(transformers, f"{name}ForCausalLM")
        return made(getattr(transformers, f"{name}Config")(**shape))
    shape |= {"query_pre_attn_scalar": 32, "layer_types": ["full_attention"] * recipe.layers}
    shape |= {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    if recipe.qk_norm:
        return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**shape))
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**shape))


def window_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each row, summed over its tokens but the first, in nats: (rows, 1)."""
    from torch.nn import functional as F

    by_token = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return by_token.double().sum(dim=1, keepdim=True)


def outcomes(
    corpus: Corpus, losses: Any, predicted: Any
) -> tuple[dict[str, Items], dict[str, Source]]:
    """Return the validation windows as items, and how both scores follow from them."""
    import numpy as np

    tokens = np.full(len(losses), corpus.validation.shape[1] - 1)
    columns = {"loss": losses, "bits": losses / math.log(2), "tokens": tokens, "bytes": predicted}
    file = items_file("validation")
    sources = {
        "final.eval_loss": Source(file=file, statistic="ratio", columns=("loss", "tokens")),
        "final.eval_bits_per_byte": Source(file=file, statistic="ratio", columns=("bits", "bytes")),
    }
    return {"validation": Items(ids=corpus.ids, columns=columns)}, sources


if __name__ == "__main__":
    sys.exit(main())
