"""The config of a small model, in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import BERT


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BERT), encoding="utf-8")
    return str(path)
