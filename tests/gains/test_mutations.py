"""Any change of a clause of the rule misplaces a gain of a network or graph of known categories.

Each mutation replaces one piece of the source, which must occur exactly once: when the source is
edited, the mutation fails until it is rewritten.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import pytest

from gamma_nlp import GammaError
from gamma_nlp.gains import additions, by_graph, losses, reach, rule
from gamma_nlp.graph import interpreter, recorder, trace
from gamma_nlp.graph.nodes import Graph
from tests.support.mutations import Mutation, mutant
from tests.support.mutations.addition_edits import ADDITIONS
from tests.support.mutations.graphs import GRAPHS, Draft
from tests.support.mutations.interpreter_edits import INTERPRET, RECORD
from tests.support.mutations.loss_edits import LOSSES
from tests.support.mutations.reach_edits import REACH
from tests.support.mutations.shortcut_edits import IDENTITY, NORM_SHORTCUT, PROJECTION, SCORES
from tests.support.mutations.use_edits import FOLLOW, SCALES, USES
from tests.support.networks import SHORT, check
from tests.support.networks.check import traced, wrong
from tests.support.zoo import ZOO, Structure, built

# The modules of the rule, each after those that it takes names from.
MODULES = (reach, losses, additions, rule)
RULE = (
    *((reach, mutation) for mutation in REACH),
    *((losses, mutation) for mutation in LOSSES),
    *((additions, m) for m in (*ADDITIONS, *IDENTITY, *NORM_SHORTCUT, *PROJECTION, *SCORES)),
    *((rule, mutation) for mutation in (*USES, *FOLLOW, *SCALES)),
)
# These networks show every mutation of the recording; each check records its network again.
TELLING = (7, 4, 15, 18, 58, 101, 25, 67)


# What the zoo calls the categories.
PLACES = {
    "inner": "branch_inner", "last": "branch_last", "shortcut": "shortcut", "head": "head",
}  # fmt: skip


def _named(mutations: tuple[Mutation, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutation", mutations, ids=lambda mutation: mutation.name)


def _rule(module: ModuleType | None = None, mutation: Mutation | None = None) -> ModuleType:
    """Return the rule, made again from the source of its modules, one of them changed."""
    fresh: dict[str, ModuleType] = {}
    for part in MODULES:
        made = mutant(part, mutation if part is module else None)
        for other in fresh.values():
            for name in vars(other).keys() & vars(made).keys():
                if getattr(vars(other)[name], "__module__", "") == other.__name__:
                    setattr(made, name, vars(other)[name])
        fresh[part.__name__] = made
    return fresh[rule.__name__]


def _misplaces(seed: int) -> bool:
    try:
        return wrong(seed) is not None
    except GammaError as error:
        if error.__cause__ is not None:
            raise  # the mutation does not run
        return True  # a norm whose gain is not found


@functools.cache
def _zoo() -> list[tuple[str, Structure, Graph]]:
    """Return the structures of the zoo, with their graphs; those of which all is settled."""
    found = []
    for name in ZOO:
        example = built(name)
        if not example.matches("unsure"):
            found.append((name, example, trace.trace(example.model, example.inputs)))
    return found


def _miszoos(module: ModuleType) -> list[str]:
    """Return the structures of the zoo in which a rule places a gain otherwise."""
    failures = []
    for name, example, graph in _zoo():
        uses: dict[str, list[Any]] = {}
        for use in module.uses(graph):
            uses.setdefault(use.parameter.removesuffix(".weight"), []).append(use)
        found = {gain: str(module.merge(places).category) for gain, places in uses.items()}
        truth = {n: PLACES[p] for n, p in example.truth().items() if p in PLACES}
        if found != truth:
            failures.append(name)
    return failures


def _misdraws(module: ModuleType) -> list[str]:
    failures = []
    for draw in GRAPHS:
        draft = Draft()
        expected = draw(draft)
        uses = module.uses(draft.graph)
        found = {use.parameter: (use.category, use.kind, use.addition) for use in uses}
        if found != expected:
            failures.append(draw.__name__)
    return failures


def test_rule_loaded_like_a_mutation_is_right_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    same = _rule()
    monkeypatch.setattr(by_graph, "rule", same)
    assert not [text for seed in range(SHORT) if (text := wrong(seed))]
    assert not _misdraws(same)
    assert not _miszoos(same)


@pytest.mark.parametrize(("old", "count"), [("no such line", "0"), ("return", "[0-9]+")])
def test_a_mutation_of_what_is_not_there_once_is_refused(old: str, count: str) -> None:
    with pytest.raises(AssertionError, match=f"occurs {count} times"):
        mutant(rule, Mutation("some", old, "other"))


@pytest.mark.parametrize(("module", "mutation"), RULE, ids=[mutation.name for _, mutation in RULE])
def test_a_changed_rule_is_wrong_somewhere(
    module: ModuleType, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = _rule(module, mutation)
    monkeypatch.setattr(by_graph, "rule", changed)
    assert _misdraws(changed) or _miszoos(changed) or any(_misplaces(seed) for seed in range(SHORT))


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the network again in every check."""
    monkeypatch.setattr(check, "traced", traced.__wrapped__)


@pytest.mark.usefixtures("untraced")
def test_recording_loaded_like_a_mutation_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "Interpreter", mutant(interpreter, None).Interpreter)
    monkeypatch.setattr(trace, "Recorder", mutant(recorder, None).Recorder)
    assert not [text for seed in TELLING if (text := wrong(seed))]


@pytest.mark.usefixtures("untraced")
@_named(INTERPRET)
def test_a_changed_meaning_of_operations_is_wrong_somewhere(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "Interpreter", mutant(interpreter, mutation).Interpreter)
    assert any(_misplaces(seed) for seed in TELLING)


@pytest.mark.usefixtures("untraced")
@_named(RECORD)
def test_a_changed_recording_is_wrong_somewhere(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "Recorder", mutant(recorder, mutation).Recorder)
    assert any(_misplaces(seed) for seed in TELLING)
