"""Any small change of meaning in decay, the Trainer's part or the companions fails a fast test.

The mutations of the rule itself are in ``gains/test_mutations.py``. Each one here replaces one
piece of a file, which must occur exactly once, in a copy of the tree: when the file is edited, the
mutation fails until it is rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mutations import Mutation
from tests.support.mutations.companion_edits import COMPANIONS
from tests.support.mutations.dose_edits import DOSES
from tests.support.mutations.files import Edits, Run, copy_tree, edited, runner
from tests.support.mutations.hf_edits import HF
from tests.support.mutations.policy_edits import POLICIES
from tests.support.mutations.state_edits import STATES
from tests.support.mutations.step_edits import STEPS
from tests.support.paths import ROOT

ALL = (*POLICIES, *DOSES, *STEPS, *STATES, *HF, *COMPANIONS)
EACH = [
    pytest.param(edits, mutation, id=f"{edits.file}: {mutation.name}")
    for edits in ALL
    for mutation in edits.mutations
]


@pytest.mark.parametrize("edits", ALL, ids=lambda edits: edits.file)
def test_every_mutation_applies(edits: Edits) -> None:
    source = (ROOT / "gamma_nlp" / edits.file).read_text(encoding="utf-8")
    assert [one.name for one in edits.mutations if source.count(one.old) != 1] == []
    assert all((ROOT / test).is_file() for test in edits.tests)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def run(tree: Path) -> Iterator[Run]:
    with runner(tree) as run:
        yield run


@pytest.mark.slow
def test_the_copy_passes_as_it_is(run: Run) -> None:
    done = run(tuple(sorted({test for edits in ALL for test in edits.tests})))
    assert done.code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize(("edits", "mutation"), EACH)
def test_a_changed_meaning_is_noticed(
    tree: Path, run: Run, edits: Edits, mutation: Mutation
) -> None:
    with edited(tree, edits, mutation):
        done = run(edits.tests)
    assert done.code == 1, done.output  # a test failed; 2: the mutant does not load
