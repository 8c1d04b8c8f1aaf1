"""Any change of a clause of the rule misplaces a gain of a network or graph of known categories.

Each mutation replaces one piece of the source, which must occur exactly once: when the source is
edited, the mutation fails until it is rewritten.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from gamma_nlp.gains import additions, by_graph, losses, reach, rule
from gamma_nlp.graph.nodes import Graph
from gamma_nlp.graph.trace import trace
from tests.support.mutations import Mutation, mutant, remade
from tests.support.mutations.addition_edits import ADDITIONS
from tests.support.mutations.draft import Draft
from tests.support.mutations.graphs import GRAPHS
from tests.support.mutations.loss_edits import LOSSES
from tests.support.mutations.loss_graphs import LOSS_GRAPHS
from tests.support.mutations.reach_edits import REACH
from tests.support.mutations.shortcut_edits import IDENTITY, NORM_SHORTCUT, PROJECTION, SCORES
from tests.support.mutations.use_edits import FOLLOW, SCALES, USES
from tests.support.networks import SHORT
from tests.support.networks.check import misplaces, wrong
from tests.support.zoo import ZOO, Structure, built

# The modules of the rule, each after those that it takes names from.
MODULES = (reach, losses, additions, rule)
RULE = (
    *((reach, mutation) for mutation in REACH),
    *((losses, mutation) for mutation in LOSSES),
    *((additions, m) for m in (*ADDITIONS, *IDENTITY, *NORM_SHORTCUT, *PROJECTION, *SCORES)),
    *((rule, mutation) for mutation in (*USES, *FOLLOW, *SCALES)),
)
# What the zoo calls the categories.
PLACES = {
    "inner": "branch_inner", "last": "branch_last", "shortcut": "shortcut", "head": "head",
}  # fmt: skip


@functools.cache
def _zoo() -> list[tuple[str, Structure, Graph]]:
    """Return the structures of the zoo, with their graphs; those of which all is settled."""
    found = []
    for name in ZOO:
        example = built(name)
        if not example.matches("unsure"):
            found.append((name, example, trace(example.model, example.inputs)))
    return found


def _miszoos(module: ModuleType) -> Iterator[str]:
    """Yield the structures of the zoo in which a rule places a gain otherwise."""
    for name, example, graph in _zoo():
        uses: dict[str, list[Any]] = {}
        for use in module.uses(graph):
            uses.setdefault(use.parameter.removesuffix(".weight"), []).append(use)
        found = {gain: str(module.merge(places).category) for gain, places in uses.items()}
        truth = {n: PLACES[p] for n, p in example.truth().items() if p in PLACES}
        if found != truth:
            yield name


def _misdraws(module: ModuleType) -> list[str]:
    failures = []
    for draw in (*GRAPHS, *LOSS_GRAPHS):
        draft = Draft()
        expected = draw(draft)
        uses = module.uses(draft.graph)
        found = {use.parameter: (use.category, use.kind, use.addition) for use in uses}
        if found != expected:
            failures.append(draw.__name__)
    return failures


def test_rule_loaded_like_a_mutation_is_right_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    same = remade(MODULES)
    monkeypatch.setattr(by_graph, "rule", same)
    assert not [text for seed in range(SHORT) if (text := wrong(seed))]
    assert not _misdraws(same)
    assert not list(_miszoos(same))


@pytest.mark.parametrize(("old", "count"), [("no such line", "0"), ("return", "[0-9]+")])
def test_a_mutation_of_what_is_not_there_once_is_refused(old: str, count: str) -> None:
    with pytest.raises(AssertionError, match=f"occurs {count} times"):
        mutant(rule, Mutation("some", old, "other"))


@pytest.mark.parametrize(("module", "mutation"), RULE, ids=[mutation.name for _, mutation in RULE])
def test_a_changed_rule_is_wrong_somewhere(
    module: ModuleType, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = remade(MODULES, module, mutation)
    monkeypatch.setattr(by_graph, "rule", changed)
    assert (
        _misdraws(changed)
        or any(_miszoos(changed))
        or any(misplaces(seed) for seed in range(SHORT))
    )
