"""Text is read line by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_lines, text_lines


def test_only_a_line_feed_ends_a_line() -> None:
    data = "a\u2028b\x85c\x0bd\ne\rf\n\n".encode()
    assert text_lines(data, "x") == ["a\u2028b\x85c\x0bd", "e\rf", ""]


def test_a_last_line_without_an_end_counts() -> None:
    assert text_lines(b"a\nb", "x") == ["a", "b"]


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa\r\nb\n"))
    assert read_lines(path) == ["a", "b"]


@pytest.mark.parametrize("keep", [0, 5, -4])
def test_a_damaged_packed_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"some text\n")[:keep] if keep else b"plain text")
    with pytest.raises(GammaError, match=r"cannot read .*text\.gz: "):
        read_lines(path)


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"ab\n", b"a b c\n"])
def test_lines_that_are_hardly_any_are_refused_before_they_are_made(line: bytes) -> None:
    """Each takes 8 to 60 bytes more than it holds: 80 MB of line ends took a gigabyte."""
    with pytest.raises(GammaError, match=r"x\.de: 2,000,001 lines of \d\.0 bytes on average"):
        text_lines(line * 2_000_001, "x.de")
    assert len(text_lines(line * 1_000, "x.de")) == 1_000
