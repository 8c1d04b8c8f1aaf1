"""Files and folders are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.files.read import read_lines
from gamma_nlp.files.write import new_file, new_folder, write_json, write_lines


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


def test_a_file_written_bit_by_bit_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with new_file(path) as file:
        file.write(b"one\n")
        assert not path.exists()
        file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    with pytest.raises(KeyError), new_file(path) as file:
        file.write(b"three\n")
        raise KeyError
    assert path.read_bytes() == b"one\ntwo\n"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


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
