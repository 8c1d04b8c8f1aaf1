"""Text to translate and a finished run, the same for all tests here; nothing writes into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.translation_runs import finished_run, prepared_corpus


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder."""
    return prepared_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder of a finished run, without a stop; its last two checkpoints are averaged."""
    return finished_run(tmp_path_factory.mktemp("whole"), data)
