"""What ``gamma-nlp score`` cannot score is named, with its line."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import pytest

from tests.support.scored_files import LOG, Capture, error, write


def test_files_of_different_length_are_named_with_their_lengths(
    files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    long = write(tmp_path, "long.txt", ["a", "b", "c"])
    assert f"{files[0]} has 2, {long} has 3" in error([files[0], long], capsys)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_a_file_without_text_is_named(
    content: bytes, files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_bytes(content)
    assert f"{empty}: the file holds no text" in error([files[0], str(empty)], capsys)


def test_a_missing_file_is_named(files: list[str], capsys: Capture) -> None:
    assert "cannot read no-such.txt: No such file" in error(["no-such.txt", files[1]], capsys)


def test_a_folder_is_not_a_file(files: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert f"cannot read {tmp_path}: Is a directory" in error([str(tmp_path), files[1]], capsys)


def test_bytes_that_are_not_utf_8_are_named_with_their_line(
    files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("plain\nschön\n".encode("latin-1"))
    message = error([files[0], str(latin)], capsys)
    assert f"{latin}:2: byte 0xf6 at offset 9 is not UTF-8; convert the file" in message
    assert "iconv" in message


PACKED = gzip.compress(LOG.encode(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [LOG.encode(), PACKED[:-20], PACKED[:10] + b"\xff" * 20 + PACKED[30:]],
    ids=["not packed", "cut short", "overwritten"],
)
def test_a_damaged_gz_file_is_named(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(content)
    assert f"cannot read {path}: " in error(["--fairseq-log", str(path)], capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "score needs HYP and REF:"),
        (["a.txt"], "score needs REF:"),
        (["a.txt", "--fairseq-log", "b"], "leave out 'a.txt' or --fairseq-log"),
        (["--fairseq-log", "b", "--lowercase"], "--lowercase goes with --detokenize LANG"),
        (["--fairseq-log", "b", "--tokenize", "intl"], "--tokenize goes with --detokenize LANG"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    words: list[str], message: str, capsys: Capture
) -> None:
    assert message in error(words, capsys)


def test_a_wrong_language_is_refused(files: list[str], capsys: Capture) -> None:
    assert re.search(
        "two lower-case letters.*'German'", error([*files, "--detokenize", "German"], capsys)
    )


def test_a_missing_package_names_the_extra(
    files: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "pip install 'gamma_nlp[translation]'" in error(files, capsys)


@pytest.mark.parametrize("code", ["xx", "qq", "EN", "eng", "", "e"])
def test_a_language_that_does_not_exist_is_refused(
    code: str, files: list[str], capsys: Capture
) -> None:
    assert "language" in error([*files, "--detokenize", code], capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb".encode("utf-16"), "iconv -f utf-16 -t utf-8"),
        ("a\nb".encode("utf-16-le"), "iconv -f utf-16 -t utf-8"),
        (gzip.compress(b"a\nb"), "packed with gzip"),
        (b"PK\x03\x04\xff", "a zip file"),
        (b"one\rtwo\rthree", "end in a carriage return alone"),
    ],
    ids=["utf-16", "utf-16 without a mark", "gzip", "zip", "old Mac"],
)
def test_a_file_that_is_no_text_is_told_by_its_kind(
    content: bytes, message: str, files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    found = error([str(path), files[1]], capsys)
    assert str(path) in found
    assert message in found
