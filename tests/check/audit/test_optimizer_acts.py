"""An audit tells what a step does: kind of decay, where it pulls, what rounding cancels."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from gamma_nlp import DecayPolicy, audit, categorize, make_optimizer
from tests.support.audited import IDS, AdamW, Network, OnePlus, act, names, network

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_gains_stored_as_one_plus_w_are_pulled_to_one_unless_the_hook_moves_them() -> None:
    model = OnePlus()
    table = categorize(model, X)
    plain = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    assert names(plain.unit_offset) == ["gain"]
    assert act(plain, "gain, branch_inner").toward == ("1",)
    for policy, toward in ((DecayPolicy(), "0"), (DecayPolicy(target="one"), "1"),
                           (DecayPolicy(target="start"), "start")):  # fmt: skip
        optimizer = make_optimizer(
            AdamW, model, weight_decay=0.1, lr=1e-3, policy=policy, table=table
        )
        found = audit(model, table, optimizer=optimizer)
        assert act(found, "gain, branch_inner").toward == (toward,)
        assert found.accidents == ()


@pytest.mark.parametrize(("policy", "pulled"), [("all", []), ("all_params", ["gain"])])
def test_what_a_policy_pulls_to_one_on_purpose_or_as_stored_is_told(
    policy: str, pulled: list[str]
) -> None:
    model = OnePlus()
    optimizer = make_optimizer(AdamW, model, weight_decay=0.1, lr=1e-3, policy=policy, inputs=X)
    assert names(audit(model, optimizer=optimizer, inputs=X).unit_offset) == pulled


def test_deferred_decay_is_no_decay_of_zero_and_not_cancelled() -> None:
    model = Network().bfloat16()
    table = categorize(model, IDS)
    optimizer = make_optimizer(AdamW, model, weight_decay=0.1, lr=1e-4, table=table)
    found = audit(model, table, optimizer=optimizer)
    assert act(found, "gain, branch_inner").coefficient == (0.1, 0.1)
    assert (found.cancelled, found.accidents) == ((), ())


def test_groups_of_ours_in_an_optimizer_without_the_hook_are_accidents_and_told_as_they_act() -> (
    None
):
    model = OnePlus()
    ours = make_optimizer(AdamW, model, weight_decay=0.1, lr=1e-3, inputs=X)
    found = audit(model, optimizer=AdamW([{**g} for g in ours.param_groups]), inputs=X)
    assert names(found.unhooked) == ["gain"]
    assert act(found, "gain, branch_inner").toward == ("1",)
    assert names(found.accidents) == ["gain"]
    assert audit(model, optimizer=copy.deepcopy(ours), inputs=X).unhooked == ()


@pytest.mark.parametrize(
    ("dtype", "lr", "lost"),
    [
        (torch.bfloat16, 1e-3, True),
        (torch.bfloat16, 0.1, False),
        (torch.float16, 1e-4, True),
        (torch.float32, 1e-4, False),
        (torch.float32, 1e-8, True),
        (torch.float64, 1e-8, False),
    ],
)
def test_decay_that_rounding_cancels_is_listed(dtype: torch.dtype, lr: float, lost: bool) -> None:
    model, table = network()
    model.to(dtype)
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=lr, weight_decay=0.1))
    assert len(found.cancelled) == (16 if lost else 0)
    assert found.accidents == ()
    if lost:
        assert str(dtype).removeprefix("torch.") in found.cancelled[0].why


def test_warm_up_does_not_count_as_rounding() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.param_groups[0]["lr"] == 0.0
    found = audit(model, table, optimizer=optimizer)
    assert found.cancelled == ()
    assert act(found, "weight").rate == (1e-3, 1e-3)


class Shrink(AdamW):
    """A subclass that leaves the step as it is."""


class Unknown(torch.optim.Optimizer):
    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, {"lr": 1e-3, **defaults})

    def step(self, closure: Any = None) -> None: ...


Options = dict[str, Any]
DECOUPLED = {"decoupled_weight_decay": True}


@pytest.mark.parametrize(
    ("kind", "options", "coefficient", "modes"),
    [
        (AdamW, {"weight_decay": 0.1, "fused": True}, 0.1, ("decoupled",)),
        (AdamW, {"weight_decay": 0.1, "lr": torch.tensor(1e-3)}, 0.1, ("decoupled",)),
        (Shrink, {"weight_decay": 0.1}, 0.1, ("decoupled",)),
        (torch.optim.Adam, {"weight_decay": 0.1}, 0.1, ("coupled",)),
        (torch.optim.Adam, {"weight_decay": 0.1, **DECOUPLED}, 0.1, ("decoupled",)),
        (torch.optim.NAdam, {"weight_decay": 0.1}, 0.1, ("coupled",)),
        (torch.optim.RAdam, {"weight_decay": 0.1, **DECOUPLED}, 0.1, ("decoupled",)),
        (torch.optim.SGD, {"weight_decay": 0.1, "lr": 0.1}, 0.1, ("coupled",)),
        (torch.optim.Adagrad, {"weight_decay": 0.1}, 0.1, ("coupled",)),
        (torch.optim.LBFGS, {}, 0.0, ()),
        (torch.optim.Rprop, {}, 0.0, ()),
        (torch.optim.ASGD, {"lambd": 0.01}, 0.01, ("decoupled",)),
        (Unknown, {}, 0.0, ()),
        (Unknown, {"weight_decay": 0.1}, 0.1, ("unknown",)),
        (Unknown, {"wd": 0.1}, 0.1, ("unknown",)),
    ],
)  # fmt: skip
def test_each_class_is_told_by_what_its_step_does(
    kind: Any, options: Options, coefficient: float, modes: tuple[str, ...]
) -> None:
    model, table = network()
    found = audit(model, table, optimizer=kind(list(model.parameters()), **options))
    weights = act(found, "weight")
    assert weights.coefficient == pytest.approx((coefficient, coefficient))
    assert (weights.modes, found.missing, found.foreign) == (modes, (), ())
    assert ("unknown" in modes) == any("none that this library knows" in n for n in found.notes)


def test_muon_and_adamw_together_hold_everything() -> None:
    model, table = network()
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)
    found = audit(model, table, optimizer=[muon, AdamW(rest, lr=1e-3, weight_decay=0.0)])
    assert (found.accidents, found.missing) == ((), ())
    assert found.rule == "Muon and AdamW"
    assert act(found, "weight").coefficient == (0.0, 0.1)
    assert act(found, "weight").modes == ("decoupled",)
    assert names(audit(model, table, optimizer=muon).missing)[0] == "embed.weight"
