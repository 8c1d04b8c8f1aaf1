"""A policy, or a part of one, that changes nothing on this model is said in words."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from torch import nn

from gamma_nlp import DecayPolicy, make_optimizer, param_groups
from gamma_nlp.decay.effect import decayed_gains, without_effect
from gamma_nlp.decay.policies.keys import Target
from gamma_nlp.decay.policy import PRESETS
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import Toy, gain, toy_table

POST_NORM = GainTable(
    gains=(gain("trunk", Category.SHORTCUT), gain("final", Category.HEAD)),
    roles={n: r for n, r in toy_table().roles.items()},
)
EVERY = {gain.name for gain in toy_table()} | set(toy_table().roles)
WITHOUT_BRANCHES = EVERY - {"inner", "last"}


def notes(policy: str | DecayPolicy, table: GainTable, trained: set[str]) -> list[str]:
    return without_effect(DecayPolicy.load(policy), table, trained)


@pytest.mark.parametrize("policy", ["guidelines", "input_only", "all", "all_params", "none"])
def test_a_policy_with_an_effect_needs_no_word(policy: str) -> None:
    assert notes(policy, toy_table(), EVERY) == []


@pytest.mark.parametrize("policy", ["guidelines", "input_only"])
def test_a_policy_that_spares_every_gain_equals_none(policy: str) -> None:
    (note,) = notes(policy, POST_NORM, WITHOUT_BRANCHES)
    assert note == (
        f"policy {policy!r} decays no gain of this model: it trains 1 shortcut, 1 head; "
        "here it equals the policy 'none'"
    )


def test_frozen_and_missing_gains_are_the_reason() -> None:
    roles = set(toy_table().roles)
    (frozen,) = notes("all", toy_table(), roles)
    assert "all 4 are frozen; here it equals the policy 'none'" in frozen
    (half,) = notes("guidelines", toy_table(), roles | {"trunk"})
    assert "it trains 1 shortcut; 3 are frozen; here it equals" in half
    (single,) = notes("all", GainTable(gains=(gain("trunk", Category.HEAD),)), set())
    assert "its one gain is frozen" in single
    (none,) = notes("all", GainTable(gains=(), roles=toy_table().roles), roles)
    assert "decays no gain of this model: it has none; here" in none
    (unused,) = notes("all", GainTable(gains=(gain("trunk", None),)), {"trunk"})
    assert "it trains 1 unused" in unused


@pytest.mark.parametrize(
    "policy",
    ["all_params", DecayPolicy(weight=0.5), DecayPolicy(mode="coupled")],
)
def test_a_policy_that_differs_elsewhere_does_not_equal_none(policy: str | DecayPolicy) -> None:
    (note,) = notes(policy, toy_table(), set(toy_table().roles))
    assert "decays no gain" in note and "equals" not in note


def test_patterns_decay_gains_too() -> None:
    policy = DecayPolicy(patterns={"tr*": 0.5})
    assert notes(policy, POST_NORM, WITHOUT_BRANCHES) == []
    assert decayed_gains(policy, POST_NORM) == ["trunk"]
    assert decayed_gains(policy, POST_NORM, {"final"}) == []


def test_kinds_and_patterns_that_change_nothing_are_named() -> None:
    kinds = DecayPolicy(kinds={"qk_norm": 0.0, "rms_norm": 1.0})
    (note,) = notes(kinds, toy_table(), EVERY)
    assert "sets 'qk_norm' under kinds, which has no effect" in note
    assert note.endswith("the gains of this model are 'layer_norm', 'rms_norm'")
    patterns = DecayPolicy(patterns={"w*": 0.0, "w_bias": 1.0, "inner*": 0.0, "inner": 1.0})
    late = notes(patterns, toy_table(), EVERY)
    assert ["has no effect: earlier patterns" in note for note in late] == [True, True]
    assert "'w_bias'" in late[0] and "'inner'" in late[1]


def test_it_is_said_when_groups_or_an_optimizer_are_made(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    x = torch.randn(2, 4)
    with caplog.at_level(logging.WARNING, "gamma_nlp"):
        param_groups(model, weight_decay=0.1, inputs=x)
        make_optimizer(torch.optim.AdamW, model, weight_decay=0.1, lr=0.1, inputs=x)
        assert caplog.text.count("decays no gain of this model: it trains 1 head") == 2
        param_groups(model, weight_decay=0.1, inputs=x, policy="all")
    assert len(caplog.records) == 2


def test_without_weight_decay_only_a_trained_gain_that_would_decay_stops() -> None:
    model = Toy()
    for name in ("inner", "last"):
        model.get_parameter(name).requires_grad = False
    groups = param_groups(model, weight_decay=0.0, table=toy_table())
    assert {group["weight_decay"] for group in groups} == {0.0}


def test_other_processes_of_a_run_keep_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, said in ((1, 0), (0, 1)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        model = Toy()
        model.inner.requires_grad = model.last.requires_grad = False
        param_groups(model, weight_decay=0.1, table=toy_table())
        assert len(caplog.records) == said


def test_a_preset_s_own_kinds_are_not_the_user_s_words() -> None:
    """The toy has no q/k norm, and ``iwd`` names them."""
    assert notes("iwd", toy_table(), EVERY) == []
    assert notes(dataclasses.replace(PRESETS["iwd"], name="mine"), toy_table(), EVERY) == []
    (note,) = notes(DecayPolicy(kinds={"qk_norm": 0.0}), toy_table(), EVERY)
    assert "'qk_norm' under kinds" in note


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        ({"head": "one"}, "'head'"),  # spared by guidelines
        ({"qk_norm": "one"}, "'qk_norm'"),  # not there
        ({"shift": "start"}, "'shift'"),  # does not decay
        ({"branch_inner": "one", "layer_norm": "start"}, "'branch_inner'"),  # the kind decides
        ({"inner*": "one", "i*": "start", "batch_norm": "one"}, "'i*', 'batch_norm'"),
    ],
)
def test_a_target_that_decides_for_nothing_is_named(targets: dict[str, Target], named: str) -> None:
    assert notes(DecayPolicy(targets=targets), toy_table(), EVERY) == [
        f"policy 'custom' sets {named} under targets, which has no effect: nothing that decays "
        "here is one of these, or another key decides for it"
    ]


def test_a_target_counts_for_what_is_trained_and_has_none_of_its_own() -> None:
    every = DecayPolicy(target="one", targets={"layer_norm": "start", "rms_norm": "zero"})
    assert notes(every, toy_table(), EVERY) == [
        "policy 'custom' sets target 'one', which has no effect: no gain decays here that has none "
        "of its own"
    ]
    assert notes(DecayPolicy(target="one"), toy_table(), EVERY) == []
    none = dataclasses.replace(PRESETS["none"], name="custom", target="start")
    (note,) = notes(none, toy_table(), EVERY)
    assert "sets target 'start', which has no effect" in note
    shifts = dataclasses.replace(none, shift=1.0)
    assert notes(shifts, toy_table(), EVERY) == []
    (frozen,) = notes(DecayPolicy(target="one"), toy_table(), EVERY - {"inner", "last"})
    assert "decays no gain of this model" in frozen  # and not once more for the target


@pytest.mark.parametrize(
    ("schedules", "named"),
    [
        ({"head": "lr_squared"}, "'head'"),
        ({"bias": "linear"}, "'bias'"),
        ({"group_norm": "cosine", "weight": "cosine"}, "'group_norm'"),
        ({"emb*": "cosine", "embedding": "linear"}, "'embedding'"),
    ],
)
def test_a_schedule_that_decides_for_nothing_is_named(
    schedules: dict[str, str], named: str
) -> None:
    policy = DecayPolicy(schedules=schedules)  # type: ignore[arg-type]
    (note,) = notes(policy, toy_table(), EVERY)
    assert f"sets {named} under schedules, which has no effect: nothing that decays" in note


def test_normalized_without_such_a_weight_is_named() -> None:
    policy = DecayPolicy(schedules={"normalized": "lr_squared"})
    table = dataclasses.replace(toy_table(), normalized=frozenset())
    (note,) = notes(policy, table, EVERY)
    assert "'normalized' under schedules, which has no effect: no weight of this model" in note
    assert notes(policy, dataclasses.replace(table, normalized=frozenset({"w"})), EVERY) == []
    (late,) = notes(policy, dataclasses.replace(table, normalized=frozenset({"w"})), EVERY - {"w"})
    assert "'normalized' under schedules, which has no effect: nothing that decays" in late


def test_a_schedule_for_all_that_every_key_overrides_is_named() -> None:
    schedules = dict.fromkeys(("weight", "branch_inner", "branch_last"), "lr_squared")
    policy = DecayPolicy(schedule="linear", schedules=schedules)
    (note,) = notes(policy, toy_table(), EVERY)
    assert "sets schedule 'linear', which has no effect: no parameter decays here" in note
    assert notes(DecayPolicy(schedule="linear"), toy_table(), EVERY) == []


@pytest.mark.parametrize(
    ("changes", "equals"),
    [
        ({}, True),
        ({"target": "one"}, True),
        ({"targets": {"branch_last": "one"}}, True),
        ({"schedules": {"head": "lr_squared"}}, True),
        ({"schedules": {"weight": "lr_squared"}}, False),
        ({"schedule": "linear"}, False),
        ({"mode": "decoupled"}, False),
        ({"rounding": "keep"}, True),
        ({"embedding": 0.0}, False),
        ({"kinds": {"qk_norm": 3.0}}, True),
    ],
)
def test_what_decays_decides_whether_a_policy_equals_none(
    changes: dict[str, object], equals: bool
) -> None:
    policy = DecayPolicy(**changes)  # type: ignore[arg-type]
    note = next(n for n in notes(policy, POST_NORM, WITHOUT_BRANCHES) if "decays no gain" in n)
    assert ("equals the policy 'none'" in note) is equals


def test_keeping_what_rounding_takes_needs_no_word() -> None:
    assert notes(DecayPolicy(rounding="keep"), toy_table(), EVERY) == []


def test_a_rule_that_spares_as_none_does_is_said_and_one_that_does_not_is_fine() -> None:
    as_none = {"inner", "last", "trunk", "final", "inner_shift", "w_bias", "mix"}
    said = without_effect(PRESETS["timm"], toy_table(), EVERY, as_none)
    assert said == ["policy 'timm' decays what the policy 'none' decays on this model"]
    assert without_effect(PRESETS["timm"], toy_table(), EVERY, as_none - {"mix"}) == []
    assert without_effect(PRESETS["timm"], toy_table(), EVERY, as_none - {"last"}) == []
