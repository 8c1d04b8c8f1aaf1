"""The modules of scripts/gpu, as its command finds them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import transformers

from tests.support.paths import SCRIPTS

FOLDER = SCRIPTS / "gpu"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import one of the modules by its name."""
    if not FOLDER.is_dir():
        pytest.skip("the scripts come with a checkout only")
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(SCRIPTS / "benchmarks"), *sys.path])
    before = transformers.logging.get_verbosity()
    yield importlib.import_module
    transformers.logging.set_verbosity(before)


@pytest.fixture
def command(load: Load) -> ModuleType:
    """The module that the command starts."""
    spec = importlib.util.spec_from_file_location("gpu_check", FOLDER / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder for one part."""
    folder = tmp_path / "all" / "part"
    folder.mkdir(parents=True)
    return folder
