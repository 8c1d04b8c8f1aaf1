"""Any change of a clause of the rule misplaces a gain of a network or graph of known categories.

Each mutation replaces one piece of the source, which must occur exactly once: when the source is
edited, the mutation fails until it is rewritten.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from gamma_nlp import GammaError
from gamma_nlp.gains import by_graph, rule
from gamma_nlp.graph import interpreter, recorder, trace
from tests.support.mutations import Mutation, mutant
from tests.support.mutations.addition_edits import ADDITIONS, REACH
from tests.support.mutations.graphs import GRAPHS, Draft
from tests.support.mutations.interpreter_edits import INTERPRET, RECORD
from tests.support.mutations.shortcut_edits import IDENTITY, PATHS, PROJECTION
from tests.support.mutations.use_edits import FOLLOW, SCALES, USES
from tests.support.networks import SHORT, check
from tests.support.networks.check import traced, wrong

RULE = (*REACH, *ADDITIONS, *IDENTITY, *PROJECTION, *PATHS, *USES, *FOLLOW, *SCALES)
# These networks show every mutation of the recording; each check records its network again.
TELLING = (7, 22, 4, 1, 11, 0, 40, 110)


def _named(mutations: tuple[Mutation, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutation", mutations, ids=lambda mutation: mutation.name)


def _misplaces(seed: int) -> bool:
    try:
        return wrong(seed) is not None
    except GammaError as error:
        if error.__cause__ is not None:
            raise  # the mutation does not run
        return True  # a norm whose gain is not found


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
    same = mutant(rule, None)
    monkeypatch.setattr(by_graph, "rule", same)
    assert not [text for seed in range(SHORT) if (text := wrong(seed))]
    assert not _misdraws(same)


@pytest.mark.parametrize(("old", "count"), [("no such line", "0"), ("return", "[0-9]+")])
def test_a_mutation_of_what_is_not_there_once_is_refused(old: str, count: str) -> None:
    with pytest.raises(AssertionError, match=f"occurs {count} times"):
        mutant(rule, Mutation("some", old, "other"))


@_named(RULE)
def test_a_changed_rule_is_wrong_somewhere(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = mutant(rule, mutation)
    monkeypatch.setattr(by_graph, "rule", changed)
    assert _misdraws(changed) or any(_misplaces(seed) for seed in range(SHORT))


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
