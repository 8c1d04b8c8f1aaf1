"""Files are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.files import text_lines, write_json


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.json"
    write_json(file, {"a": 1, "where": Path("x")})
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, endless)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1, "where": "x"}
    assert [one.name for one in file.parent.iterdir()] == ["table.json"]


def test_only_a_line_feed_ends_a_line() -> None:
    data = "a\u2028b\x85c\x0bd\ne\rf\n\n".encode()
    assert text_lines(data, "x") == ["a\u2028b\x85c\x0bd", "e\rf", ""]


def test_a_last_line_without_an_end_counts() -> None:
    assert text_lines(b"a\nb", "x") == ["a", "b"]
