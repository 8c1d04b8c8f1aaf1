"""Every gain of the listed families, by table and by graph, against the golden files."""

from __future__ import annotations

import pytest

from gamma_nlp import GainTable, GammaError, categorize
from tests.support.families import FAMILIES
from tests.support.golden_files import expected, golden_path, read_golden

# Layouts that no table is written for: the graph alone decides.
GRAPH_ONLY = {"albert_groups"}


def placed(table: GainTable) -> dict[str, tuple[str, str, float]]:
    return {gain.name: (str(gain.category), gain.kind, gain.offset) for gain in table}


def golden(model: object, family: str) -> dict[str, tuple[str, str, float]]:
    rows = expected(model, read_golden(golden_path(family)))  # type: ignore[arg-type]
    return {name: (str(row[0]), row[1], float(row[2])) for name, row in rows.items()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_graph_places_every_gain_as_written_by_hand(family: str) -> None:
    model = FAMILIES[family].build()
    assert placed(categorize(model, method="graph")) == golden(model, family)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - GRAPH_ONLY))
def test_table_places_every_gain_as_written_by_hand(family: str) -> None:
    model = FAMILIES[family].build()
    assert placed(categorize(model, method="table")) == golden(model, family)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - GRAPH_ONLY))
def test_table_and_graph_agree_on_gains_and_on_the_role_of_every_other_parameter(
    family: str,
) -> None:
    model = FAMILIES[family].build()
    both = categorize(model, FAMILIES[family].inputs())
    assert {gain.source for gain in both} == {"table+graph"}
    assert both.roles == categorize(model, method="table").roles
    names = {name for name, _ in model.named_parameters()}
    assert names == {gain.name for gain in both} | set(both.roles)


@pytest.mark.parametrize("family", sorted(GRAPH_ONLY))
def test_layout_without_a_table_is_refused_by_table_and_placed_by_auto(family: str) -> None:
    model = FAMILIES[family].build()
    with pytest.raises(GammaError, match="no name table holds"):
        categorize(model, method="table")
    assert {gain.source for gain in categorize(model)} == {"graph"}
