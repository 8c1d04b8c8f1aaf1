"""Flat partitions, as DeepSpeed ZeRO makes them, decay as what is in them, or are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import DecayPolicy, GammaError, make_optimizer
from gamma_nlp.companions import StrongRegularizer, UnitNorm, effective_lr
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.samples import stand_in
from gamma_nlp.wrappers import unwrap_optimizer
from tests.support.flat_partitions import FlatPartitions, put_back
from tests.support.optim_models import Toy, assert_equal, toy_table

RATES = [0.05] * 8
EVERY = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 0.5}


def optimizer(model: Any, policy: Any, cls: Any = torch.optim.AdamW, **options: Any) -> Any:
    options = {"weight_decay": 0.2, "lr": 0.05, **options}
    return make_optimizer(cls, model, policy=policy, table=toy_table(), rates=RATES, **options)


POLICIES = {
    "toward zero": (DecayPolicy(**EVERY), {}),
    "toward one": (DecayPolicy(**EVERY, target="one"), {}),
    "toward start": (DecayPolicy(**EVERY, target="start"), {}),
    "in the gradient": (DecayPolicy(**EVERY, mode="coupled"), {}),
    "a ramp": (DecayPolicy(**EVERY, target="one", schedule="cosine"), {}),
    "a square": (DecayPolicy(**EVERY, schedule="lr_squared"), {}),
    "deferred": (DecayPolicy(**EVERY), {"weight_decay": 1e-6}),
}


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_partitions_decay_as_the_parameters_in_them(name: str, stage: int) -> None:
    policy, options = POLICIES[name]
    whole, cut = Toy(), Toy()
    alone = optimizer(whole, policy, **options)
    engines = [
        FlatPartitions(optimizer(cut, policy, **options), rank=rank, of=3, stage=stage)
        for rank in range(3)
    ]
    deferred = [g for g in alone.param_groups if g.get("gamma_part") == "deferred"]
    assert bool(deferred) == (name == "deferred")
    for step in range(len(RATES)):
        for model in (whole, cut):
            model.zero_grad()
            model.loss(step).backward()
        alone.step()
        for engine in engines:
            engine.step()
        put_back(engines)
    assert_equal(whole, cut)


@pytest.mark.parametrize("name", ["a ramp", "deferred"])
def test_group_that_is_stepped_in_several_parts_cannot_be_counted(name: str) -> None:
    model = Toy()
    policy, options = POLICIES[name]
    engine = FlatPartitions(optimizer(model, policy, **options), stage=3, parts=2)
    model.loss().backward()
    with pytest.raises(GammaError, match=r"several parts.* a larger sub_group_size under zero_opt"):
        engine.step()
    plain = FlatPartitions(optimizer(Toy(), POLICIES["toward one"][0]), stage=3, parts=2)
    for p in [p for tensors in plain.whole for p in tensors]:
        p.grad = torch.ones_like(p)
    plain.step()


def test_optimizer_inside_an_engines_and_accelerates_wrapper_is_found() -> None:
    from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper

    own = optimizer(Toy(), DecayPolicy(**EVERY))
    engine = FlatPartitions(own)
    assert unwrap_optimizer(engine) is own
    # As DeepSpeedOptimizerWrapper of accelerate 1.15.0 holds it; its own __init__ needs DeepSpeed.
    wrapper = object.__new__(DeepSpeedOptimizerWrapper)
    wrapper.optimizer = engine
    assert unwrap_optimizer(wrapper) is own


def test_plan_is_made_from_values_that_stand_for_the_parameters() -> None:
    policy = DecayPolicy(**EVERY, target="one")
    model = Toy()
    own = optimizer(model, policy)
    rates: Any = [RATES] * len(own.param_groups)
    expected = plan_decay(own, rates)
    values = {name: stand_in(p, torch.float32) for name, p in model.named_parameters()}
    FlatPartitions(own, of=2)
    with pytest.raises(GammaError, match=r"call plan_decay before deepspeed\.initialize"):
        plan_decay(own, rates)
    told = plan_decay(own, rates, values=values)
    assert told.doses == pytest.approx(expected.doses)
    assert told.centers == expected.centers and told.coefficients == expected.coefficients


def companions(optimizer: Any, model: Any) -> dict[str, Any]:
    return {
        "UnitNorm": lambda: UnitNorm(optimizer, ["w"], model=model, force=True),
        "StrongRegularizer": lambda: StrongRegularizer(optimizer, names=["w"], l1=0.1, model=model),
    }


@pytest.mark.parametrize("kind", ["UnitNorm", "StrongRegularizer"])
@pytest.mark.parametrize("stage", [2, 3])
def test_companions_refuse_partitions_that_come_later_or_are_there(kind: str, stage: int) -> None:
    model = Toy()
    own = torch.optim.AdamW(list(model.named_parameters()), lr=0.1)
    companions(own, model)[kind]()
    engine = FlatPartitions(own, stage=stage)
    model.loss().backward()
    before = copy.deepcopy(engine.parts)
    with pytest.raises(GammaError, match=r"'w' is no longer in the optimizer, .*flat partitions"):
        engine.step()
    assert all(torch.equal(*pair) for pair in zip(before[0], engine.parts[0], strict=True)) or (
        kind == "UnitNorm"  # it is asked after the step, and rescales nothing
    )
    for call in (companions(own, model)[kind], lambda: effective_lr(own, ["w"], model)):
        with pytest.raises(GammaError, match=r"holds 'embed', 'inner'.* in flat partitions"):
            call()


def test_parameters_of_stage_3_are_refused_by_name() -> None:
    layer = nn.Linear(4, 4)
    own = torch.optim.SGD(list(layer.named_parameters()), lr=0.1)
    for p in layer.parameters():
        p.ds_tensor, p.data = p.data, torch.empty(0)  # type: ignore[attr-defined]
    with pytest.raises(GammaError, match=r"'weight' is sharded \(DeepSpeed ZeRO-3\)"):
        effective_lr(own, model=layer)
