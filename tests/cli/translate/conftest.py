"""A small run, and lines to translate with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_run import tiny_run
from tests.support.translated import LINES


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tiny_run(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.de"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path
