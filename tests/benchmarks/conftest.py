"""Load each benchmark as its command does, and prepare a little text for two of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import transformers

from gamma_nlp.tasks.translation.prepare.cleaning import PREPARATIONS, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from tests.support.parallel_corpora import make_folder
from tests.support.paths import SCRIPTS

FOLDER = SCRIPTS / "benchmarks"


@pytest.fixture
def benchmark(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The script that the test file is named after."""
    if not FOLDER.is_dir():
        pytest.skip("the scripts come with a checkout only")
    monkeypatch.delenv("GAMMA_NLP_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    before = transformers.logging.get_verbosity()
    yield importlib.import_module(request.path.stem.removeprefix("test_"))
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    recipe = Preparation(merges=4, cleaning=PREPARATIONS["multi30k"].cleaning)
    prepare(read_corpus(make_folder(folder), ("de", "en")), recipe, folder / "prepared")
    return folder / "prepared"
