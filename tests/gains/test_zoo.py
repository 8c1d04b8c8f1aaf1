"""The graph gives the truth about every gain of the zoo."""

from __future__ import annotations

import warnings

import pytest

from gamma_nlp import Role, categorize
from tests.support.zoo import ZOO, built

NAMES = {
    "branch_inner": "inner",
    "branch_last": "last",
    "shortcut": "shortcut",
    "head": "head",
    "None": "unused",
}


@pytest.mark.parametrize("name", ZOO)
def test_every_gain_is_where_the_definitions_put_it(name: str) -> None:
    example = built(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gains without use, classes called norm: said elsewhere
        table = categorize(example.model, example.inputs, method="graph")
    truth = example.truth()
    found = {gain.name.removesuffix(".weight"): NAMES[str(gain.category)] for gain in table}
    unsure = example.matches("unsure")
    found = {name: place for name, place in found.items() if name not in unsure}
    assert found == {n: place for n, place in truth.items() if place not in ("other", "unsure")}
    roles = {name.removesuffix(".weight"): role for name, role in table.roles.items()}
    none = [name for name, place in truth.items() if place == "other"]
    assert {name: roles[name] for name in none} == dict.fromkeys(none, Role.OTHER)


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 60
