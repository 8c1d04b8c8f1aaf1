from __future__ import annotations

import copy
import dataclasses
from typing import get_args

import pytest
import torch
from torch import nn

from gamma_nlp.decay.groups import Decay, assign, merged_groups, param_groups, table_for
from gamma_nlp.decay.policy import PRESETS, DecayPolicy, Mode
from gamma_nlp.decay.schedule import Schedule
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import GainTable
from tests.support.optim_models import Toy, gain, toy_table, train


def names(groups: list[dict]) -> dict[float, list[str]]:
    return {group["weight_decay"]: group["param_names"] for group in groups}


def test_assign_multiplies_weight_decay_and_puts_gain_zero_at_minus_the_offset() -> None:
    settings = assign(toy_table(), DecayPolicy(branch_inner=0.5), 0.1)
    assert settings["inner"] == Decay(coefficient=0.05)
    assert settings["last"] == Decay(coefficient=0.1, center=-1.0)
    assert settings["trunk"].coefficient == settings["w_bias"].coefficient == 0.0
    assert list(settings) == ["inner", "last", "trunk", "final", *toy_table().roles]


def test_equal_settings_share_a_group_in_the_order_of_the_model() -> None:
    groups = param_groups(Toy(), weight_decay=0.1, policy="input_only", table=toy_table())
    assert names(groups) == {
        0.1: ["embed", "inner", "w"],
        0.0: ["inner_shift", "w_bias", "last", "trunk", "final", "mix"],
    }


def test_groups_cover_every_trainable_parameter_once() -> None:
    model = Toy()
    model.w.requires_grad_(False)
    groups = param_groups(model, weight_decay=0.1, policy="none", table=toy_table())
    found = [id(p) for group in groups for p in group["params"]]
    expected = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(found) == sorted(expected) and len(set(found)) == len(found)
    own = dict(model.named_parameters())
    for group in groups:
        assert [own[name] is p for name, p in zip(*_named(group), strict=True)]


def _named(group: dict) -> tuple[list[str], list[nn.Parameter]]:
    return group["param_names"], group["params"]


def test_no_empty_group_and_one_group_where_everything_decays() -> None:
    groups = param_groups(Toy(), weight_decay=0.1, policy="all_params", table=toy_table(offset=0.0))
    assert len(groups) == 1


def test_torch_optimizer_takes_the_groups_and_keeps_the_names() -> None:
    model = Toy()
    groups = param_groups(model, weight_decay=0.1, policy="none", table=toy_table())
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    assert [g["param_names"] for g in saved["param_groups"]] == [g["param_names"] for g in groups]
    other = torch.optim.AdamW(
        param_groups(Toy(), weight_decay=0.1, policy="none", table=toy_table()), lr=0.01
    )
    other.load_state_dict(saved)
    assert other.param_groups[0]["param_names"] == groups[0]["param_names"]


def test_tied_parameter_appears_once_under_its_first_name() -> None:
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    model[1].weight = model[0].weight
    table = GainTable(gains=(), roles={"0.weight": Role.EMBEDDING})
    (group,) = param_groups(model, weight_decay=0.1, policy="none", table=table)
    assert group["param_names"] == ["0.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_table_of_the_bare_model_fits_the_wrapped_one(prefix: str) -> None:
    model: nn.Module = Toy()
    for part in reversed(prefix.strip(".").split(".")):
        wrapper = nn.Module()
        wrapper.add_module(part, model)
        model = wrapper
    groups = param_groups(model, weight_decay=0.1, policy="none", table=toy_table())
    assert names(groups)[0.1] == ["embed", "w"]


def test_a_submodule_called_module_keeps_its_name() -> None:
    model = nn.ModuleDict({"module": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    table = GainTable(gains=(), roles=dict.fromkeys(["module.weight", "b.weight"], Role.WEIGHT))
    (group,) = param_groups(model, weight_decay=0.1, policy="none", table=table)
    assert group["param_names"] == ["module.weight", "b.weight"]


def test_coupled_mode_names_make_optimizer() -> None:
    with pytest.raises(GammaError, match=r"'embed', 'inner', 'w': .*mode 'coupled'; use.*make_opt"):
        param_groups(
            Toy(), weight_decay=0.1, policy=DecayPolicy(mode="coupled", branch_last=0.0),
            table=toy_table(),
        )  # fmt: skip


def test_decayed_offset_gain_is_named_and_an_undecayed_one_is_fine() -> None:
    with pytest.raises(GammaError, match=r"'last': .*as for a gain that is 1 \+ weight; use gamma"):
        param_groups(Toy(), weight_decay=0.1, policy="guidelines", table=toy_table())
    param_groups(Toy(), weight_decay=0.1, policy="input_only", table=toy_table())


@pytest.mark.parametrize("policy", ["guidelines", "input_only", "all", "all_params"])
def test_weight_decay_zero_under_a_policy_that_decays_gains(policy: str) -> None:
    with pytest.raises(GammaError, match=r"weight_decay is 0 \(the default of TrainingArguments"):
        assign(toy_table(), PRESETS[policy], 0.0)


def test_weight_decay_zero_is_fine_where_no_gain_decays() -> None:
    assert {s.coefficient for s in assign(toy_table(), PRESETS["none"], 0.0).values()} == {0.0}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_bad_weight_decay(value: object) -> None:
    with pytest.raises(GammaError, match="weight_decay must be"):
        assign(toy_table(), PRESETS["none"], value)  # type: ignore[arg-type]


def test_pattern_that_matches_nothing_gets_close_names() -> None:
    policy = DecayPolicy(patterns={"*iner": 0.0})
    with pytest.raises(GammaError, match=r"pattern '\*iner' matches no parameter.*'inner'"):
        assign(toy_table(), policy, 0.1)


def test_parameter_missing_from_the_table_is_named() -> None:
    table = GainTable(gains=(gain("inner", Category.HEAD),), roles=toy_table().roles)
    with pytest.raises(GammaError, match="parameter 'last' is not in the gain table"):
        param_groups(Toy(), weight_decay=0.1, policy="none", table=table)


def test_model_without_trainable_parameters() -> None:
    with pytest.raises(GammaError, match="no trainable parameter"):
        param_groups(
            copy.deepcopy(Toy()).requires_grad_(False),
            weight_decay=0.1,
            policy="none",
            table=toy_table(),
        )


def test_what_is_no_table_is_refused_by_its_type() -> None:
    with pytest.raises(GammaError, match="table must be the GainTable that categorize returns"):
        param_groups(Toy(), weight_decay=0.1, table="gain_table.json")  # type: ignore[arg-type]


def test_multipliers_above_one_enlarge_the_decay() -> None:
    policy = DecayPolicy(branch_inner=2.5, branch_last=0.0, weight=3.0, kinds={"layer_norm": 4.0})
    settings = assign(toy_table(), policy, 0.1)
    assert settings["w"].coefficient == pytest.approx(0.3)
    assert settings["inner"].coefficient == pytest.approx(0.4)


def test_groups_name_parameters_without_their_wrappers() -> None:
    for model in (nn.DataParallel(nn.DataParallel(Toy())), torch.compile(Toy())):
        groups = param_groups(model, weight_decay=0.1, policy="none", table=toy_table())
        names = [name for group in groups for name in group["param_names"]]
        assert sorted(names) == sorted(name for name, _ in Toy().named_parameters())


@pytest.mark.parametrize("native", ["decoupled", "coupled"])
def test_the_hook_decays_what_the_optimizer_cannot(native: Mode) -> None:
    """In another mode, and gains toward a value other than 0: the groups say which."""
    table = toy_table()  # last is stored as 1 + weight
    for mode in get_args(Mode):
        policy = DecayPolicy(mode=mode, branch_inner=0.5)
        decays = assign(table, policy, 0.1)
        groups = merged_groups(dict(Toy().named_parameters()), decays, native=native)
        found = {name: group for group in groups for name in group["param_names"]}
        last, inner, trunk = found["last"], found["inner"], found["trunk"]
        same = mode in ("native", native)
        assert (last["weight_decay"], last["gamma_center"]) == (0.1, -1.0)
        assert last["gamma_part"] == ("center" if same else "all")
        assert last["gamma_mode"] == (native if mode == "native" else mode)
        assert inner["weight_decay"] == 0.05
        assert inner.get("gamma_part") == (None if same else "all")
        assert inner.get("gamma_center", 0.0) == trunk["weight_decay"] == 0.0
        assert "gamma_part" not in trunk


def test_targets_are_values_of_the_parameter() -> None:
    """The gain ``last`` is 1 + parameter: gain 1 is parameter 0, where the optimizer suffices."""
    for target, center in (("zero", (0.0, -1.0)), ("one", (1.0, 0.0)), ("start", ("start",) * 2)):
        decays = assign(toy_table(), DecayPolicy(target=target), 0.1)  # type: ignore[arg-type]
        assert (decays["inner"].center, decays["last"].center) == center
        assert decays["w"].center == 0.0
    named = dict(Toy().named_parameters())
    groups = merged_groups(
        named, assign(toy_table(), DecayPolicy(target="one"), 0.1), native="decoupled"
    )
    (hooked,) = [group for group in groups if "gamma_part" in group]
    assert hooked["param_names"] == ["inner"]


def test_small_tensors_stand_together_at_the_end_of_a_group() -> None:
    named = {
        n: nn.Parameter(torch.zeros(s))
        for n, s in {"a": 4, "b": 70_000, "c": 65_535, "d": 65_536}.items()
    }
    decays = dict.fromkeys(named, Decay(coefficient=0.1))
    (group,) = merged_groups(named, decays, native="decoupled")
    assert group["param_names"] == ["b", "d", "a", "c"]


def test_schedules_share_a_group_where_they_are_equal() -> None:
    named = dict(Toy().named_parameters())
    policy = DecayPolicy(
        branch_last=0.0,
        schedule="lr_squared",
        schedules={"embedding": {"kind": "cosine"}},  # type: ignore
    )
    decays = assign(toy_table(), policy, 0.1)
    groups = merged_groups(named, decays, native="decoupled", peak=0.5, steps=7)
    found = {group.get("gamma_schedule"): group for group in groups}
    assert found["lr_squared"]["param_names"] == ["inner", "w"]
    assert found["cosine"]["param_names"] == ["embed"]
    assert (found["cosine"]["gamma_base"], found["cosine"]["gamma_steps"]) == (0.1, 7)
    assert found["lr_squared"]["gamma_peak"] == 0.5
    with pytest.raises(GammaError, match=r"embed: schedule 'cosine' needs the number of optimizer"):
        merged_groups(named, decays, native="decoupled", peak=0.5)
    constant = {"embed": Decay(coefficient=0.1, mode="coupled", schedule=Schedule(kind="constant"))}
    with pytest.raises(GammaError, match="embed: a constant schedule divides by the learning rate"):
        merged_groups({"embed": named["embed"]}, constant, native="decoupled")


def test_weights_that_a_norm_follows_need_inputs_that_say_so() -> None:
    policy = DecayPolicy(schedules={"normalized": "lr_squared"})  # type: ignore[dict-item]
    with pytest.raises(GammaError, match=r"schedules\['normalized'\] needs a forward pass"):
        table_for(Toy(), None, toy_table(), policy)
    known = dataclasses.replace(toy_table(), normalized=frozenset({"inner"}))
    assert table_for(Toy(), None, known, policy) is known
    assert table_for(Toy(), None, toy := toy_table(), "all") is toy
