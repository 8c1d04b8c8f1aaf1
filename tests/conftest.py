"""What holds for all tests: no network, one thread, and what a test may need."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything imports transformers or torch.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for package in mark.args:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """A folder of real data by its name; the test is skipped where it is absent."""

    def folder(name: str) -> Path:
        path = Path(os.environ.get("GAMMA_NLP_DATA", "-")) / name
        if not path.is_dir():
            pytest.skip(f"GAMMA_NLP_DATA names no folder with {name} in it")
        return path

    return folder
