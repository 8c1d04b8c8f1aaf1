"""Tiny models of both libraries on a tiny corpus, saved, converted and compared."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from gamma_nlp.fairseq.convert.files import to_transformers
from gamma_nlp.tasks.translation.architecture import build_translator
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from tests.support.fairseq_runs import call, quiet

OPTIONS = """
    --arch transformer --encoder-layers 2 --decoder-layers 1 --encoder-embed-dim 16
    --decoder-embed-dim 16 --encoder-ffn-embed-dim 24 --decoder-ffn-embed-dim 32
    --encoder-attention-heads 2 --decoder-attention-heads 4 --max-source-positions 40
    --max-target-positions 32 --source-lang de --target-lang en
"""
TINY = OPTIONS.split()
PRENORM = ["--encoder-normalize-before", "--decoder-normalize-before"]
SHARING = {
    "all": ["--share-all-embeddings"],
    "output": ["--share-decoder-input-output-embed"],
    "none": [],
}
SOURCES = [["Der", "x", "."], ["Frau"], ["den", "Hund", ".", "sieht", "Der", "Mann", "."]]
TARGETS = [["The", "dog", "sees", "."], ["the", "x", "cat", "."], ["ball"]]
ENDS = [len(words) + 1 for words in TARGETS]


@dataclass(frozen=True)
class Corpus:
    """A prepared folder, binarised with one dictionary for both languages and with one for each."""

    prepared: Path
    joined: Path
    separate: Path


def binarised(prepared: Path, folder: Path) -> Corpus:
    languages = ["--source-lang", "de", "--target-lang", "en"]
    names = ("train", "valid", "test")
    files = [word for name in names for word in (f"--{name}pref", prepared / name)]
    for name, joined in (("joined", ["--joined-dictionary"]), ("separate", [])):
        done = call("preprocess", *languages, *files, *joined, "--destdir", folder / name)
        assert done == 0
    return Corpus(prepared, folder / "joined", folder / "separate")


def model_state(data: Path, *words: str, seed: int = 1) -> dict[str, Any]:
    """Return a checkpoint with random weights, gains and biases."""
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from omegaconf import OmegaConf

    with quiet():
        parser = options.get_training_parser()
        args = options.parse_args_and_arch(parser, input_args=[str(data), *TINY, *words])
        cfg = convert_namespace_to_omegaconf(args)
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": model.state_dict(),
        "optimizer_history": [{"optimizer_name": "Adam", "lr_scheduler_state": {}}],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "namespace": args,
    }


def save(state: dict[str, Any], path: Path) -> Path:
    torch.save({name: value for name, value in state.items() if name != "namespace"}, path)
    return path


def as_older_release(state: dict[str, Any]) -> dict[str, Any]:
    """Return the checkpoint as fairseq 0.9 would save it: a bare namespace, and other names."""
    options = vars(state["namespace"])
    lacking = ("quant_noise_pq", "encoder_layerdrop", "offload_activations", "base_layers")
    kept = {name: value for name, value in options.items() if name not in lacking}
    weights = dict(state["model"])
    for side in ("encoder", "decoder"):
        weights[f"{side}.embed_positions.weights"] = torch.ones(3, 16)
    for kind in ("weight", "bias"):
        new = f"encoder.layers.0.final_layer_norm.{kind}"
        weights[f"encoder.layers.0.layer_norms.1.{kind}"] = weights.pop(new)
    if options["share_all_embeddings"]:
        del weights["decoder.output_projection.weight"]
    return {**state, "args": Namespace(**kept), "cfg": None, "model": weights}


def load(path: Path, data: Path) -> Any:
    from fairseq import checkpoint_utils

    with quiet():
        (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], arg_overrides={"data": str(data)}
        )
    return model.eval()


def fairseq_logits(model: Any, sources: list[list[str]], targets: list[list[str]]) -> torch.Tensor:
    """Return logits of shape (sentences, longest target + 1, dictionary), in fairseq's batches."""
    from fairseq.data import data_utils

    pair = (model.encoder.dictionary, model.decoder.dictionary)
    rows = [
        [torch.tensor([d.index(word) for word in words] + [d.eos()]) for words in side]
        for d, side in zip(pair, (sources, targets), strict=True)
    ]
    source = data_utils.collate_tokens(rows[0], pair[0].pad(), left_pad=True)
    previous = data_utils.collate_tokens(
        rows[1], pair[1].pad(), pair[1].eos(), left_pad=False, move_eos_to_beginning=True
    )
    lengths = torch.tensor([len(row) for row in rows[0]])
    with quiet(), torch.no_grad():
        logits: torch.Tensor = model(source, lengths, previous)[0]
    return logits


def our_logits(model: Any, text: Any, sources: list[Any], targets: list[Any]) -> torch.Tensor:
    """Return a transformers model's logits, in the order of its own vocabulary."""
    pad = text.source.pad_token_id
    rows = [
        encode([" ".join(words) for words in side])
        for encode, side in ((text.encode_source, sources), (text.encode_target, targets))
    ]
    ids, previous = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row) for row in side], batch_first=True, padding_value=pad
        )
        for side in (rows[0], [[row[-1], *row[:-1]] for row in rows[1]])
    )
    with torch.no_grad():
        logits: torch.Tensor = model(
            input_ids=ids, attention_mask=ids.ne(pad), decoder_input_ids=previous
        ).logits
    return logits


def convert(state: dict[str, Any], data: Path, corpus: Corpus, folder: Path) -> Path:
    checkpoint = save(state, folder / "checkpoint_best.pt")
    to_transformers(checkpoint, data, corpus.prepared, folder / "run")
    return folder / "run"


def our_run(corpus: Corpus, folder: Path, kind: str, *, joint: bool, **fields: Any) -> Path:
    """Write the folder of a run with random weights, gains and biases."""
    text = read_prepared(corpus.prepared, "de", "en", joint=joint)
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 24,
    }
    torch.manual_seed(1)
    model = build_translator({"model_type": kind, **sizes, **fields}, text)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    text.save(folder)
    model.save_pretrained(folder / "averaged")
    return folder


def difference(checkpoint: Path, data: Path, run: Path) -> float:
    """Return the largest difference between the logits of both, over the tokens both have."""
    theirs = load(checkpoint, data)
    text = TranslationText.load(run)
    model = AutoModelForSeq2SeqLM.from_pretrained(run / "averaged")
    order = [theirs.decoder.dictionary.index(word) for word in ids(text.target)]
    left = fairseq_logits(theirs, SOURCES, TARGETS)[:, :, order]
    right = our_logits(model, text, SOURCES, TARGETS)
    assert left.shape == right.shape
    return max(
        float((one - other)[:end].abs().max())
        for one, other, end in zip(left, right, ENDS, strict=True)
    )


def ids(tokenizer: Any) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "averaged" / "model.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)
