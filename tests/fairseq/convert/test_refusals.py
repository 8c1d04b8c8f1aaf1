"""What cannot be converted is named, and nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from gamma_nlp.fairseq.convert.files import from_transformers, to_transformers
from gamma_nlp.tasks.translation.checkpoints import load_saved
from tests.support.fairseq_models import (
    PRENORM,
    Corpus,
    convert,
    model_state,
    our_run,
    save,
)
from tests.support.fairseq_runs import need_fairseq

need_fairseq()


@pytest.mark.parametrize(
    "options",
    [
        "--layernorm-embedding",
        "--adaptive-softmax-cutoff 8",
        "--no-cross-attention",
        "--cross-self-attention",
        "--quant-noise-pq 0.1",
        "--quant-noise-scalar 0.1",
        "--encoder-layers-to-keep 0",
        "--decoder-layers-to-keep 0",
        "--encoder-normalize-before with one side only",
        "--decoder-embed-dim 24",
        "--decoder-output-dim 8",
        "--base-layers 1",
    ],
)
def test_an_option_that_transformers_lacks_is_named(
    corpus: Corpus, tmp_path: Path, options: str
) -> None:
    state = model_state(corpus.joined)
    name, *values = options.split(" ")
    field = name.removeprefix("--").replace("-", "_")
    value: Any = True if not values or values[0] == "with" else values[0]
    numeric = ("dim", "noise_pq", "scalar", "base_layers")
    setattr(state["cfg"]["model"], field, float(value) if field.endswith(numeric) else value)
    if field.endswith("dim") or field == "base_layers":
        setattr(state["cfg"]["model"], field, int(values[0]))
    with pytest.raises(GammaError, match=f"trained with {name}.*Train without it, or translate"):
        convert(state, corpus.joined, corpus, tmp_path)
    assert not (tmp_path / "run").exists()


def test_prenorm_without_a_last_norm_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined, *PRENORM, "--no-decoder-final-norm")
    with pytest.raises(GammaError, match="--no-decoder-final-norm"):
        convert(state, corpus.joined, corpus, tmp_path)
    state = model_state(corpus.joined, *PRENORM)
    for side in ("encoder", "decoder"):
        state["model"][f"{side}.version"] = torch.ones(1)
        for kind in ("weight", "bias"):
            del state["model"][f"{side}.layer_norm.{kind}"]
    with pytest.raises(GammaError, match="did not normalise after the last layer"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_prenorm_with_two_dictionaries_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.separate, *PRENORM)
    with pytest.raises(GammaError, match="train with --joined-dictionary"):
        convert(state, corpus.separate, corpus, tmp_path)


def test_another_architecture_or_task_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    state["cfg"]["model"].arch = "lstm"
    with pytest.raises(GammaError, match="--arch lstm and --task translation; only"):
        convert(state, corpus.joined, corpus, tmp_path)
    state["cfg"]["model"].arch = "transformer_iwslt_de_en"
    state["cfg"]["task"]["_name"] = "translation_lev"
    with pytest.raises(GammaError, match="--task translation_lev; only"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_an_activation_that_transformers_lacks_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    state["cfg"]["model"].activation_fn = "swish"
    with pytest.raises(GammaError, match="--activation-fn swish; these can be converted: relu, "):
        convert(state, corpus.joined, corpus, tmp_path)


def test_wrong_files_and_folders_are_named(corpus: Corpus, tmp_path: Path) -> None:
    checkpoint = save(model_state(corpus.joined), tmp_path / "checkpoint.pt")
    run, junk = tmp_path / "run", tmp_path / "junk.pt"
    junk.write_bytes(b"junk")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    good = (checkpoint, corpus.joined, corpus.prepared, run)
    for place, wrong, message in (
        (0, tmp_path / "no.pt", "there is no checkpoint .*no.pt; give a .pt file"),
        (0, junk, "junk.pt cannot be loaded as a model of fairseq's transformer: "),
        (1, tmp_path / "no", "there is no folder .*no; give the --destdir"),
        (1, tmp_path, "--data .* has no dict.de.txt; give the --destdir"),
        (1, corpus.separate, "the encoder of .* tokens, the dictionary in .*; give the --data"),
        (2, tmp_path, "is not a prepared folder"),
        (3, full, "--output .*full is not empty; give a new folder"),
        (3, checkpoint, "--output .* is not a folder"),
    ):
        given = [wrong if index == place else path for index, path in enumerate(good)]
        with pytest.raises(GammaError, match=message):
            to_transformers(*given)
    assert not run.exists()


def test_subwords_of_other_data_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(corpus.prepared, other)
    (other / "vocab").write_text("Hund 1\n")
    checkpoint = save(model_state(corpus.joined), tmp_path / "checkpoint.pt")
    with pytest.raises(GammaError, match=r"dict.de.txt: .* words .* its subwords are others"):
        to_transformers(checkpoint, corpus.joined, other, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    del state["model"]["decoder.layers.0.fc1.weight"]
    with pytest.raises(GammaError, match=r"cannot be loaded .*decoder\.layers\.0\.fc1\.weight"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_models_that_fairseq_lacks_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    for number, (fields, message) in enumerate(
        (
            ({"kind": "bart"}, "model_type bart has no counterpart in fairseq"),
            ({"kind": "marian", "activation_function": "silu"}, "activation_function silu is not"),
        )
    ):
        run = our_run(corpus, tmp_path / str(number), joint=True, **fields)
        with pytest.raises(GammaError, match=message):
            from_transformers(run, tmp_path / "out")
    run = our_run(corpus, tmp_path / "run", "pegasus", joint=True)
    model = load_saved(run / "averaged")
    model.final_logits_bias += 1
    model.save_pretrained(run / "averaged")
    with pytest.raises(GammaError, match="final_logits_bias to its output, which fairseq does not"):
        from_transformers(run, tmp_path / "out")
    model.final_logits_bias.zero_()
    model.resize_token_embeddings(99, mean_resizing=False)
    model.save_pretrained(run / "averaged")
    with pytest.raises(GammaError, match=r"a vocabulary of 99 tokens, text/ of"):
        from_transformers(run, tmp_path / "out")
    with pytest.raises(GammaError, match="is not the folder of a translation run"):
        from_transformers(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
