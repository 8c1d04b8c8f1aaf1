"""The examples of docstrings run as printed, and none is skipped."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import gamma_nlp

PACKAGE = Path(gamma_nlp.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
LADDERS = ("DecayPolicy", "categorize", "decay_dose", "make_optimizer", "param_groups")


def run(test: doctest.DocTest) -> None:
    assert not any(doctest.SKIP in example.options for example in test.examples)
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_examples_run_as_printed(module: str) -> None:
    found = doctest.DocTestFinder().find(importlib.import_module(module))
    for test in found:
        run(test)


@pytest.mark.parametrize("name", LADDERS)
def test_the_ladders_of_public_names_run(name: str) -> None:
    what: Any = inspect.unwrap(getattr(gamma_nlp, name))  # doctest does not look into wrappers
    module = importlib.import_module(what.__module__)
    (test,) = doctest.DocTestFinder(recurse=False).find(what, name, module=module, globs={})
    assert test.examples
    run(test)
