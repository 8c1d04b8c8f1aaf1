"""Files and folders are written whole or not at all; text is read line by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files import (
    MANIFEST,
    check_target,
    checksums,
    new_folder,
    read_lines,
    text_lines,
    write_json,
    write_lines,
)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.json"
    write_json(file, {"a": 1, "where": Path("x")})
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, endless)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1, "where": "x"}
    assert [one.name for one in file.parent.iterdir()] == ["table.json"]


def test_lines_are_written_and_read_back(tmp_path: Path) -> None:
    write_lines(tmp_path / "new" / "text", iter(["a b", "", "c\u2028d"]))
    assert (tmp_path / "new" / "text").read_bytes() == "a b\n\nc\u2028d\n".encode()
    assert read_lines(tmp_path / "new" / "text") == ["a b", "", "c\u2028d"]


def test_a_new_folder_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_folder(tmp_path / "out") as draft:
            (draft / "text").write_text(content, encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "text").read_text(encoding="utf-8") == "new"


def test_an_error_leaves_the_old_folder_and_no_draft(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as draft:
        (draft / "text").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "out"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "text"]


def test_only_a_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    check_target(target, None, overwrite=False)
    target.mkdir()
    with pytest.raises(GammaError, match="exists; add --overwrite"):
        check_target(target, None, overwrite=False)
    (target / "precious").touch()
    with pytest.raises(GammaError, match=f"no {MANIFEST}"):
        check_target(target, None, overwrite=True)
    (target / MANIFEST).touch()
    check_target(target, None, overwrite=True)
    with pytest.raises(GammaError, match="holds the input"):
        check_target(target, target / "precious", overwrite=True)


def test_checksums_are_by_path_within_the_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "deep" / "a", ["x"])
    digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    assert checksums(tmp_path) == {"deep/a": digest}


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
