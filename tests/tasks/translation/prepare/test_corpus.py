"""Parallel files are read strictly: what is wrong is named with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import text_lines
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning
from gamma_nlp.tasks.translation.prepare.corpus import pair_up, read_folder

FILES = {
    "train.de": "Ein Hund.\nZwei Hunde.\n",
    "train.en": "A dog.\nTwo dogs.\n",
    "val.de": "Ja.\n",
    "val.en": "Yes.\n",
    "test_b.de": "Nein.\n",
    "test_b.en": "No.\n",
    "test_a.de": "Nie.\n",
    "test_a.en": "Never.\n",
}


def folder(path: Path, **changes: str | bytes | None) -> Path:
    for name, content in (FILES | {k.replace("__", "."): v for k, v in changes.items()}).items():
        if content is not None:
            data = content if isinstance(content, bytes) else content.encode()
            (path / name).write_bytes(data)
    return path


def refused(path: Path, message: str, **options: bool) -> None:
    with pytest.raises(GammaError, match=re.escape(message)):
        read_folder(path, ("de", "en"), **options)


def test_splits_are_found_by_name_and_lines_keep_their_partners(tmp_path: Path) -> None:
    corpus = read_folder(folder(tmp_path), ("en", "de"))
    assert corpus.names == ["train", "valid", "test_a", "test_b"]
    assert corpus.splits[0].pairs == [("A dog.", "Ein Hund."), ("Two dogs.", "Zwei Hunde.")]
    assert list(corpus.sources)[:2] == ["train.en", "train.de"]
    assert not corpus.official


def test_byte_order_mark_and_crlf_are_no_part_of_a_line(tmp_path: Path) -> None:
    made = folder(tmp_path, train__de=b"\xef\xbb\xbfEin Hund.\r\nZwei Hunde.\r\n")
    assert read_folder(made, ("de", "en")).splits[0].pairs[0] == ("Ein Hund.", "A dog.")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_that_is_not_utf8_names_file_line_and_offset(tmp_path: Path, mark: bytes) -> None:
    made = folder(tmp_path, train__de=mark + "gut\nschön\n".encode("latin-1"))
    offset = len(mark) + 7
    refused(made, f"train.de:2: byte 0xf6 at offset {offset} is not UTF-8; convert the file")


def test_files_of_different_length_name_the_line_without_partner(tmp_path: Path) -> None:
    made = folder(tmp_path, train__en="A dog.\n")
    message = f"{tmp_path}/train.de has 2 lines and {tmp_path}/train.en has 1: {tmp_path}/train.de"
    refused(made, f"{message}:2 has no partner")
    with pytest.raises(GammaError, match="two has 3 lines and one has 1: two:2 has no partner"):
        pair_up(["a"], ["b", "c", "d"], ("one", "two"))


def test_a_missing_language_says_what_is_there(tmp_path: Path) -> None:
    made = folder(tmp_path, test_a__en=None)
    refused(made, "lacks test_a.en; it has 'test_a.de', 'test_b.de', 'test_b.en', 'train.de'")
    with pytest.raises(GammaError, match=r"lacks train\.fr, val\.fr, .*--languages"):
        read_folder(made, ("de", "fr"))


@pytest.mark.parametrize("stem", ["train", "test"])
def test_a_missing_split_says_which_names_are_expected(tmp_path: Path, stem: str) -> None:
    gone = {name.replace(".", "__"): None for name in FILES if name.startswith(stem)}
    refused(folder(tmp_path, **gone), f"lacks {stem}.de and {stem}.en; expected train.*, valid.*")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "and found no files")


def test_two_validation_sets_are_refused(tmp_path: Path) -> None:
    refused(folder(tmp_path, dev__de="a\n", dev__en="a\n"), "has both val.* and dev.*")


def test_text_that_was_split_into_subwords_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path, train__de="Ein Hund.\nZw@@ ei Hunde.\n")
    refused(made, "train.de:2: 'Zw@@' reads as a piece of a word")


def test_a_stray_mark_is_refused_in_tokenised_text_only(tmp_path: Path) -> None:
    made = folder(tmp_path, train__de="@@\nHunde\n")
    assert read_folder(made, ("de", "en")).splits[0].pairs[0] == ("@@", "A dog.")
    refused(made, "train.de:1: '@@' reads as a piece", tokenized=True)


def test_tokenised_and_raw_text_are_not_mistaken_for_one_another(tmp_path: Path) -> None:
    raw = folder(tmp_path)
    refused(raw, "train.de does not look tokenised: 2 of 2 final periods", tokenized=True)
    tokens = {name.replace(".", "__"): text.replace(".", " .") for name, text in FILES.items()}
    made = folder(tmp_path, **tokens)
    assert read_folder(made, ("de", "en"), tokenized=True).splits[0].pairs[0][1] == "A dog ."
    refused(made, "train.de looks tokenised already: 2 of 2 final periods")


def test_prepared_iwslt14_has_the_known_counts(real_data: Callable[[str], Path]) -> None:
    files = real_data("iwslt14.tokenized.de-en")
    for split, count in (("valid", 7_283), ("test", 6_750)):
        sides = [text_lines((files / f"{split}.{x}").read_bytes(), split) for x in ("de", "en")]
        pairs = pair_up(sides[0], sides[1], ("de", "en"))
        assert len(pairs) == count
        assert {Cleaning().reason_to_drop(pair) for pair in pairs} == {None}
