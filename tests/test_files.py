"""Files are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.files import write_json


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.json"
    write_json(file, {"a": 1, "where": Path("x")})
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, endless)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1, "where": "x"}
    assert [one.name for one in file.parent.iterdir()] == ["table.json"]
