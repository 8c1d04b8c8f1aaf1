"""The examples in docstrings of the gain table's rooms run as printed, none is skipped."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gamma_nlp.gains
import gamma_nlp.graph

ROOMS = (gamma_nlp.gains, gamma_nlp.graph)
MODULES = ["gamma_nlp.rows", "gamma_nlp.wrappers"] + [
    f"{room.__name__}.{module.name}"
    for room in ROOMS
    for module in pkgutil.iter_modules(room.__path__)
]


def examples(name: str) -> list[doctest.Example]:
    module = importlib.import_module(name)
    return [example for test in doctest.DocTestFinder().find(module) for example in test.examples]


@pytest.mark.parametrize("name", [name for name in MODULES if examples(name)])
def test_examples_run_as_printed(name: str) -> None:
    assert not any(doctest.SKIP in example.options for example in examples(name))
    failed, ran = doctest.testmod(importlib.import_module(name))
    assert ran and not failed


def test_examples_of_categorize_end_in_a_policy() -> None:
    source = [example.source for example in examples("gamma_nlp.gains.placement")]
    places = [
        next(i for i, line in enumerate(source) if text in line)
        for text in ("nn.Sequential(nn.Linear", "class Block", "print(table)", "policy=")
    ]
    assert places == sorted(places)
