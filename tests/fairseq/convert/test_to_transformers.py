"""Checkpoints of fairseq as folders of translation runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from gamma_nlp import GammaError
from gamma_nlp.fairseq.convert.files import to_transformers
from gamma_nlp.tasks.translation.checkpoints import load_saved
from gamma_nlp.tasks.translation.text import TranslationText
from tests.support.fairseq_models import (
    PRENORM,
    SHARING,
    Corpus,
    as_older_release,
    convert,
    difference,
    ids,
    model_state,
    same,
)
from tests.support.fairseq_runs import need_fairseq

need_fairseq()


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
@pytest.mark.parametrize("sharing", SHARING)
def test_a_checkpoint_gives_the_same_logits_in_transformers(
    corpus: Corpus, tmp_path: Path, norm: list[str], sharing: str
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING[sharing])
    run = convert(state, corpus.joined, corpus, tmp_path)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.joined, run) < 1e-5


@pytest.mark.parametrize("sharing", ["output", "none"])
def test_a_dictionary_for_each_language_stays_one_for_each(
    corpus: Corpus, tmp_path: Path, sharing: str
) -> None:
    state = model_state(corpus.separate, *SHARING[sharing])
    run = convert(state, corpus.separate, corpus, tmp_path)
    text = TranslationText.load(run)
    assert len(text.source) != len(text.target)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.separate, run) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ["--no-scale-embedding"],
        ["--no-token-positional-embeddings"],
        ["--encoder-learned-pos", "--decoder-learned-pos"],
        ["--decoder-learned-pos"],
        ["--activation-fn", "gelu"],
        ["--activation-fn", "gelu_accurate"],
        ["--activation-fn", "tanh"],
        ["--activation-fn", "linear"],
        ["--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5"],
    ],
    ids=lambda words: " ".join(words),
)
def test_options_that_both_know_change_nothing(
    corpus: Corpus, tmp_path: Path, options: list[str]
) -> None:
    state = model_state(corpus.joined, *SHARING["all"], *options)
    run = convert(state, corpus.joined, corpus, tmp_path)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.joined, run) < 1e-5


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
def test_a_checkpoint_of_an_older_fairseq_is_the_same_model(
    corpus: Corpus, tmp_path: Path, norm: list[str]
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING["all"])
    expected = convert(state, corpus.joined, corpus, tmp_path)
    (tmp_path / "old").mkdir()
    found = convert(as_older_release(state), corpus.joined, corpus, tmp_path / "old")
    assert same(found, expected)


def test_weights_that_plain_fairseq_saves_and_never_uses_are_left_out(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    expected = convert(state, corpus.joined, corpus, tmp_path)
    for name in ("in_proj", "out_proj", "fc1", "fc2"):
        for kind in ("weight", "bias"):
            state["model"][f"encoder.layers.0.{name}_{kind}"] = torch.ones(2)
    (tmp_path / "plain").mkdir()
    assert same(convert(state, corpus.joined, corpus, tmp_path / "plain"), expected)


def test_languages_come_from_the_names_of_the_data_where_the_run_lacks_them(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    for name in ("source_lang", "target_lang"):
        state["cfg"]["task"][name] = None
    text = TranslationText.load(convert(state, corpus.joined, corpus, tmp_path))
    assert (text.source_language, text.target_language) == ("de", "en")
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(GammaError, match=r"nor the files in .*bare name the languages"):
        to_transformers(tmp_path / "checkpoint_best.pt", bare, corpus.prepared, tmp_path / "other")


def test_the_run_has_the_recipes_ids_and_the_longer_of_both_lengths(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    run = convert(state, corpus.joined, corpus, tmp_path)
    text = TranslationText.load(run)
    assert ids(text.source)[:4] == ["<pad>", "</s>", "<unk>", "<s>"]
    config = json.loads((run / "averaged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 40
    settings = json.loads((run / "averaged" / "generation_config.json").read_text())
    wanted = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 1}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings.get("forced_eos_token_id") is None


def test_a_learned_table_limits_the_positions(corpus: Corpus, tmp_path: Path) -> None:
    options = ["--encoder-learned-pos", "--decoder-learned-pos"]
    run = convert(model_state(corpus.joined, *options), corpus.joined, corpus, tmp_path)
    config = json.loads((run / "averaged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 32


def test_positions_survive_being_loaded_and_saved_again(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    run = convert(state, corpus.joined, corpus, tmp_path)
    load_saved(run / "averaged").save_pretrained(tmp_path / "again" / "averaged")
    shutil.copytree(run / "text", tmp_path / "again" / "text")
    assert same(run, tmp_path / "again")
