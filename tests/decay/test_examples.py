"""The examples in docstrings run, and none is skipped."""

from __future__ import annotations

import doctest
import inspect
import sys
from typing import Any

import pytest

import gamma_nlp


@pytest.mark.parametrize("name", ["DecayPolicy", "decay_dose", "make_optimizer", "param_groups"])
def test_docstring_examples_run(name: str) -> None:
    what: Any = inspect.unwrap(getattr(gamma_nlp, name))
    (example,) = doctest.DocTestFinder(recurse=False).find(
        what, name, module=sys.modules[what.__module__], globs={}
    )
    assert example.examples and not any(one.options for one in example.examples)
    assert doctest.DocTestRunner().run(example).failed == 0
