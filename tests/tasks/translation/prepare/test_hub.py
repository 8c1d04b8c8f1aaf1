"""Parallel text by name: read by the datasets library, here from local folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare.cleaning import default_preparation
from gamma_nlp.tasks.translation.prepare.hub import read_hub_corpus

ROWS = [{"de": "Ein Hund.", "en": "A dog."}, {"de": "Zwei\nHunde.", "en": "Two dogs."}]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def folder(path: Path, **splits: list[dict[str, Any]]) -> str:
    path.mkdir()
    for name, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return str(path)


def test_columns_by_language_become_pairs_in_the_languages_order(tmp_path: Path) -> None:
    name = folder(tmp_path / "multi30k", train=ROWS, validation=ROWS[:1], test=ROWS[1:])
    corpus = read_hub_corpus(name, ("en", "de"))
    found = {split.name: list(split.pairs) for split in corpus.splits}
    both = [("A dog.", "Ein Hund."), ("Two dogs.", "Zwei Hunde.")]
    assert found == {"train": both, "valid": both[:1], "test": both[1:]}
    assert set(corpus.sources) == {
        f"hub:{name}/{split}.{side}"
        for split in ("train", "validation", "test")
        for side in ("de", "en")
    }
    assert default_preparation(corpus) == "multi30k"


def test_a_column_of_translations_is_read_too(tmp_path: Path) -> None:
    rows = [{"translation": row} for row in ROWS]
    name = folder(tmp_path / "pairs", train=rows, test=rows)
    corpus = read_hub_corpus(name, ("de", "en"))
    assert corpus.names == ["train", "test"]
    assert corpus.splits[0].pairs[0] == ("Ein Hund.", "A dog.")
    with pytest.raises(GammaError, match="no fr in translation, only de, en"):
        read_hub_corpus(name, ("de", "fr"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    name = folder(tmp_path / "one", train=ROWS)
    with pytest.raises(GammaError, match=r"has the splits train, and must have train and test"):
        read_hub_corpus(name, ("de", "en"))
    name = folder(tmp_path / "two", train=ROWS, test=ROWS)
    with pytest.raises(GammaError, match=r"has the columns de, en; expected de and fr"):
        read_hub_corpus(name, ("de", "fr"))


def test_text_that_was_cut_already_is_refused(tmp_path: Path) -> None:
    rows = [{"de": "ein hu@@ nd .", "en": "a dog ."}]
    name = folder(tmp_path / "cut", train=rows, test=rows)
    with pytest.raises(GammaError, match=r"cut, train, de:1: 'hu@@' reads as a piece of a word"):
        read_hub_corpus(name, ("de", "en"))
    rows = [{"de": "ein hund .", "en": "a dog ."}]
    name = folder(tmp_path / "tokens", train=rows, test=rows)
    with pytest.raises(GammaError, match=r"looks tokenised already.*add --tokenized"):
        read_hub_corpus(name, ("de", "en"))
    assert read_hub_corpus(name, ("de", "en"), tokenized=True).names == ["train", "test"]


def test_a_name_that_cannot_be_reached_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(GammaError, match=r"cannot load no/such.*give a folder with train\.LANG"):
        read_hub_corpus("no/such", ("de", "en"))
