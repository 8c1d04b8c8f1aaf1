"""Tokenizers from a vocabulary file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.tokenizer import load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_vocabulary_is_a_word_a_line_whatever_ends_the_line(end: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("".join(word + end for word in WORDS).encode())
    tokenizer = load_tokenizer(str(tmp_path / "vocab.txt"))
    assert tokenizer.get_vocab() == {word: index for index, word in enumerate(WORDS)}


def test_a_word_that_is_in_a_vocabulary_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "good"]))
    with pytest.raises(GammaError, match=r"vocab\.txt:8: 'good' is there twice, first in line 6"):
        load_tokenizer(str(tmp_path / "vocab.txt"))


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no tokenizer")
    with pytest.raises(GammaError, match=r"has no tokenizer: .* give the one that the model"):
        load_tokenizer(str(tmp_path))


def test_a_vocabulary_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n[UNK]\nb\xf6se\n")
    with pytest.raises(GammaError, match=r"vocab\.txt:3: byte 0xf6 at offset 13 is not UTF-8"):
        load_tokenizer(str(tmp_path / "vocab.txt"))


def test_a_tokenizer_that_fails_at_its_first_word_is_named(tmp_path: Path) -> None:
    """The package behind it panics, which is no ``Exception`` in Python."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    load_tokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer.json"
    saved = json.loads(path.read_text())
    marks = [{"SpecialToken": {"id": mark, "type_id": 0}} for mark in ("[CLS]", "[SEP]")]
    saved["post_processor"] = {"type": "TemplateProcessing", "single": marks, "pair": marks,
                               "special_tokens": {}}  # fmt: skip
    path.write_text(json.dumps(saved))
    with pytest.raises(GammaError, match=r"^cannot load a tokenizer from '.*saved': no entry"):
        load_tokenizer(str(tmp_path / "saved"))
