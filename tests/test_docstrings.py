"""The examples of docstrings run as printed."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import gamma_nlp

PACKAGE = Path(gamma_nlp.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


def test_the_ladders_have_examples() -> None:
    for module in ("gains.placement", "decay.groups", "decay.optimizer", "decay.dose"):
        assert f"gamma_nlp.{module}" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_examples_run_as_printed(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), report=True)
    assert found.attempted > 0 and found.failed == 0


def test_no_example_is_skipped() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "doctest: +SKIP" not in path.read_text(encoding="utf-8"), path
