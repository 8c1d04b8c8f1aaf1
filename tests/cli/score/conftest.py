"""Translations and references, in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scored_files import HYP, REF, write


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [write(tmp_path, "hyp.txt", HYP), write(tmp_path, "ref.txt", REF)]
