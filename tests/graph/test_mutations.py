"""Any change of a clause of the recording misplaces a gain or a role of a known model.

Each mutation replaces one piece of the source, which must occur exactly once: when the source is
edited, the mutation fails until it is rewritten.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from gamma_nlp import GainTable, GammaError, categorize
from gamma_nlp.graph import (
    affine,
    call,
    evidence,
    interpreter,
    joins,
    operands,
    parts,
    propagation,
    recorder,
    slices,
    trace,
    values,
    written_norms,
)
from tests.support.mutations import Mutation, remade
from tests.support.mutations.interpreter_edits import INTERPRET
from tests.support.mutations.models import EXAMPLES, Example
from tests.support.mutations.norm_edits import NORMS
from tests.support.mutations.value_edits import (
    AFFINE,
    EVIDENCE,
    JOINS,
    OPERANDS,
    PARTS,
    PROPAGATE,
    SLICES,
    VALUES,
)
from tests.support.networks import check
from tests.support.networks.check import misplaces, traced, wrong
from tests.support.structures import short, signal
from tests.support.zoo import built

# The modules of the recording, each after those that it takes names from.
MODULES = (
    joins, parts, affine, operands, written_norms, interpreter, values, call, slices, evidence,
    propagation, recorder,
)  # fmt: skip
RECORDING = (
    *((joins, mutation) for mutation in JOINS),
    *((slices, mutation) for mutation in SLICES),
    *((parts, mutation) for mutation in PARTS),
    *((affine, mutation) for mutation in AFFINE),
    *((operands, mutation) for mutation in OPERANDS),
    *((written_norms, mutation) for mutation in NORMS),
    *((interpreter, mutation) for mutation in INTERPRET),
    *((values, mutation) for mutation in VALUES),
    *((evidence, mutation) for mutation in EVIDENCE),
    *((propagation, mutation) for mutation in PROPAGATE),
)
# Networks and structures that show every mutation; each check records them again.
NETWORKS = (7, 4, 15, 18, 58, 101, 25, 67)
STRUCTURES = (
    "reversible", "chunked", "reversible_in_another_layout", "doubled_gain", "masked_gain",
    "dynamic_tanh", "tanh_gate",
    "hand_written_batch_norm", "frozen_batch_norm", "sum_by_stack", "lerp_gate",
    "loss_mean_square_to_the_input",
)  # fmt: skip
# What the zoo calls the categories.
PLACES = {
    "branch_inner": "inner", "branch_last": "last", "shortcut": "shortcut", "head": "head",
    "unused": "unused",
}  # fmt: skip


def _misplaces(name: str) -> bool:
    """Whether a structure of the zoo has a gain in another place than the truth."""
    example = built(name)
    found = _categorized(example.model, example.inputs)
    truth = {n: place for n, place in example.truth().items() if place != "other"}
    return found is None or {n: PLACES[v.split()[0]] for n, v in short(found).items()} != truth


def _misnames(make: Callable[[], Example]) -> bool:
    """Whether a parameter of a model has another role than the truth, or a gain another place."""
    torch.manual_seed(0)
    model, wanted = make()
    table = _categorized(model, signal())
    if table is None:
        return True
    found = short(table) | {name: str(role) for name, role in table.roles.items()}
    return {name: found.get(name) for name in wanted} != wanted


def _categorized(model: nn.Module, inputs: object) -> GainTable | None:
    """The table that the graph gives; ``None`` where the gain of a norm is not found."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gains without use
            return categorize(model, inputs, method="graph")
    except GammaError as error:
        if error.__cause__ is not None:
            raise  # the mutation does not run
        return None


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the networks again in every check."""
    monkeypatch.setattr(check, "traced", traced.__wrapped__)


def test_recording_loaded_like_a_mutation_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "Recorder", remade(MODULES).Recorder)
    assert not [text for seed in NETWORKS if (text := wrong(seed))]
    assert not [name for name in STRUCTURES if _misplaces(name)]
    assert not [make.__name__ for make in EXAMPLES if _misnames(make)]


@pytest.mark.parametrize(("module", "mutation"), RECORDING, ids=[m.name for _, m in RECORDING])
def test_a_changed_recording_is_wrong_somewhere(
    module: ModuleType, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "Recorder", remade(MODULES, module, mutation).Recorder)
    assert (
        any(_misplaces(name) for name in STRUCTURES)
        or any(_misnames(make) for make in EXAMPLES)
        or any(misplaces(seed) for seed in NETWORKS)
    )
