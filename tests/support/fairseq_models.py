"""Tiny models of fairseq over a tiny prepared corpus, saved as fairseq saves them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.fairseq_runs import call, quiet

OPTIONS = """
    --arch transformer --encoder-layers 2 --decoder-layers 1 --encoder-embed-dim 16
    --decoder-embed-dim 16 --encoder-ffn-embed-dim 24 --decoder-ffn-embed-dim 32
    --encoder-attention-heads 2 --decoder-attention-heads 4 --max-source-positions 40
    --max-target-positions 32 --source-lang de --target-lang en
"""
TINY = OPTIONS.split()
PRENORM = ["--encoder-normalize-before", "--decoder-normalize-before"]


@dataclass(frozen=True)
class Corpus:
    """A prepared folder, and what fairseq-preprocess makes of it."""

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
    """A checkpoint with random weights; gains and biases are random, too."""
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
    """The same checkpoint in the form of fairseq 0.9: a bare namespace, and other names."""
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
    """Of shape (sentences, longest target + 1, dictionary), by fairseq's collation."""
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
    """The same from a model of transformers, its vocabulary in its own order."""
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
