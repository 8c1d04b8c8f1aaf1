"""Translation runs as checkpoints of fairseq, and there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from gamma_nlp.fairseq.convert.files import from_transformers, to_transformers
from gamma_nlp.tasks.translation.checkpoints import load_saved
from gamma_nlp.tasks.translation.text import TranslationText
from tests.support.fairseq_models import (
    PRENORM,
    SHARING,
    Corpus,
    convert,
    difference,
    ids,
    load,
    model_state,
    our_run,
)
from tests.support.fairseq_runs import need_fairseq

need_fairseq()


@pytest.mark.parametrize(
    ("kind", "joint", "fields"),
    [
        ("marian", True, {}),
        ("marian", True, {"scale_embedding": True, "activation_function": "relu"}),
        ("marian", False, {"activation_function": "gelu_new"}),
        ("marian", False, {"tie_word_embeddings": False}),
        ("pegasus", True, {"scale_embedding": True}),
        ("pegasus", True, {"tie_word_embeddings": False}),
    ],
)
def test_a_run_gives_the_same_logits_in_fairseq(
    corpus: Corpus, tmp_path: Path, kind: str, joint: bool, fields: dict[str, Any]
) -> None:
    run = our_run(corpus, tmp_path / "run", kind, joint=joint, **fields)
    from_transformers(run, tmp_path / "out")
    assert difference(tmp_path / "out" / "checkpoint.pt", tmp_path / "out", run) < 1e-5


@pytest.mark.parametrize("kind", ["marian", "pegasus"])
def test_there_and_back_again_is_bit_for_bit_the_run(
    corpus: Corpus, tmp_path: Path, kind: str
) -> None:
    run = our_run(corpus, tmp_path / "run", kind, joint=True)
    from_transformers(run, tmp_path / "out")
    back = tmp_path / "back"
    to_transformers(tmp_path / "out" / "checkpoint.pt", tmp_path / "out", corpus.prepared, back)
    text, other = TranslationText.load(run), TranslationText.load(back)
    first, second = (
        AutoModelForSeq2SeqLM.from_pretrained(run / "averaged"),
        load_saved(back / "averaged"),
    )
    found, order = second.state_dict(), [ids(other.source).index(w) for w in ids(text.source)]
    for name, tensor in first.state_dict().items():
        tokens = tensor.dim() > 1 and len(found[name]) == len(other.source)
        assert torch.equal(found[name][order] if tokens else found[name], tensor) or (
            name == "final_logits_bias" and not found[name].any()
        ), name


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
@pytest.mark.parametrize("sharing", ["all", "none"])
def test_fairseqs_checkpoint_comes_back_bit_for_bit(
    corpus: Corpus, tmp_path: Path, norm: list[str], sharing: str
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING[sharing])
    words = from_transformers(convert(state, corpus.joined, corpus, tmp_path), tmp_path / "out")
    assert "--encoder-learned-pos" not in words
    back = load(tmp_path / "out" / "checkpoint.pt", tmp_path / "out").state_dict()
    assert back.keys() == state["model"].keys()
    floats = [name for name in back if not name.endswith("_float_tensor")]  # never initialised
    assert all(torch.equal(back[name], state["model"][name]) for name in floats)
    for language in ("de", "en"):
        written, given = (
            [
                line.split(" ")[0]
                for line in (folder / f"dict.{language}.txt").read_text().split("\n")
            ]
            for folder in (tmp_path / "out", corpus.joined)
        )
        assert written == given


def test_without_a_start_token_fairseqs_has_the_weights_of_the_padding(
    corpus: Corpus, tmp_path: Path
) -> None:
    run = our_run(corpus, tmp_path / "run", "marian", joint=False)
    from_transformers(run, tmp_path / "out")
    weights = load(tmp_path / "out" / "checkpoint.pt", tmp_path / "out").state_dict()
    for name in ("encoder.embed_tokens.weight", "decoder.output_projection.weight"):
        assert torch.equal(weights[name][0], weights[name][1])
