"""Audits of optimizers that somebody else made: what they hold, and how that decays."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import DecayPolicy, audit, categorize, make_optimizer
from gamma_nlp.check.audit.optimizer import ALL, EMBEDDINGS
from gamma_nlp.check.audit.optimizer_report import Act, OptimizerAudit
from gamma_nlp.check.audit.report import Accident
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.table import GainTable
from tests.support.pre_norm import Block

AdamW = torch.optim.AdamW


class Network(nn.Module):
    """An embedding, two pre-norm blocks, a final norm and an output layer."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(7, 4), nn.Sequential(Block(), Block())
        self.last, self.lm_head = nn.LayerNorm(4), nn.Linear(4, 7, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.last(self.blocks(self.embed(x))))


class OnePlus(nn.Module):
    """A block whose gain is stored as 1 + w."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(4, elementwise_affine=False)
        self.gain, self.linear = nn.Parameter(torch.zeros(4)), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.norm(x) * (1 + self.gain))


IDS = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(0))
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def network(**kwargs: Any) -> tuple[Network, GainTable]:
    model = Network(**kwargs)
    return model, categorize(model, IDS)


def names(found: tuple[Accident, ...]) -> list[str]:
    return [one.name for one in found]


def act(found: OptimizerAudit, what: str) -> Act:
    (one,) = (one for one in found.acts if one.what == what)
    return one


def split(model: nn.Module, *words: str, decay: float = 0.1) -> list[dict[str, Any]]:
    """Groups by words in names, as they stand in many training scripts."""
    named = list(model.named_parameters())
    spared = [p for name, p in named if any(word in name for word in words)]
    return [
        {
            "params": [p for n, p in named if not any(word in n for word in words)],
            "weight_decay": decay,
        },
        {"params": spared, "weight_decay": 0.0},
    ]


def test_an_optimizer_that_is_right_has_no_accident() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(split(model, "bias", "norm", "last"), lr=1e-3))
    assert found.accidents == ()
    assert (found.decayed, found.spared, found.groups) == (6, 10, 2)
    assert act(found, "gain, head").coefficient == (0.0, 0.0)
    weights = act(found, "weight")
    assert (weights.coefficient, weights.modes, weights.toward) == (
        (0.1, 0.1),
        ("decoupled",),
        ("0",),
    )
    assert weights.step == pytest.approx((1e-4, 1e-4))
    assert str(found).endswith("accidents: none")


def test_names_that_miss_the_norms_decay_them_by_accident() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(split(model, "bias", "LayerNorm.weight"), lr=1e-3))
    assert names(found.accidents) == ["last.weight"]
    assert found.accidents[0].why == "weight_decay is 0.1 in group 0"
    assert names(found.decayed_as_under_guidelines) == [
        "blocks.0.norm.weight",
        "blocks.1.norm.weight",
    ]


def test_an_optimizer_that_decays_everything_does_as_some_authors_do() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    assert found.accidents == ()
    assert {one.why for one in found.decayed_as_by_some_authors} == {ALL}


def test_an_empty_group_without_decay_shows_that_sparing_was_meant() -> None:
    model, table = network()
    groups = [{"params": list(model.parameters())}, {"params": [], "weight_decay": 0.0}]
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3, weight_decay=0.1))
    assert "last.weight" in names(found.accidents)
    assert found.more_groups == (
        "group 1, weight_decay 0: no parameter, so what it was made for matched nothing",
    )


def test_without_any_decay_nothing_is_spared_by_accident_and_the_audit_says_so() -> None:
    model, table = network()
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.0))
    assert found.accidents == ()
    assert found.notes == ("nothing decays: weight_decay is 0 in its group",)


def test_a_weight_that_alone_is_spared_is_an_accident_and_embeddings_are_not() -> None:
    model, table = network()
    groups = split(model, "bias", "norm", "last", "up", "embed", "lm_head")
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3))
    assert names(found.accidents) == ["blocks.0.up.weight", "blocks.1.up.weight"]
    spared = {one.name: one.why for one in found.spared_as_by_some_authors}
    assert spared == dict.fromkeys(("embed.weight", "lm_head.weight"), EMBEDDINGS)


def test_a_parameter_that_came_later_is_missing() -> None:
    model, table = network()
    kept = [p for name, p in model.named_parameters() if not name.startswith("last")]
    found = audit(model, table, optimizer=AdamW(kept, lr=1e-3))
    assert names(found.missing) == ["last.weight", "last.bias"]
    assert names(found.accidents)[:2] == ["last.weight", "last.bias"]
    assert [one.what for one in found.missing] == ["gain, head", "shift"]


def test_a_tied_parameter_counts_once() -> None:
    model, table = network(tied=True)
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3))
    assert (found.missing, found.twice, found.decayed) == ((), (), 15)


def test_a_parameter_in_two_optimizers_or_groups_is_twice_there() -> None:
    model, table = network()
    whole = AdamW(model.parameters(), lr=1e-3)
    head = torch.optim.SGD(model.last.parameters(), lr=0.1)
    found = audit(model, table, optimizer=[whole, head])
    assert {one.name: one.why for one in found.twice} == dict.fromkeys(
        ("last.weight", "last.bias"), "in AdamW, group 0 and in SGD, group 0"
    )
    whole.param_groups.append({**whole.param_groups[0], "params": [model.embed.weight]})
    found = audit(model, table, optimizer=whole)
    assert [(one.name, one.why) for one in found.twice] == [
        ("embed.weight", "in group 0 and in group 1")
    ]


def test_a_frozen_parameter_is_skipped_unless_its_gradient_is_still_there() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model(IDS).sum().backward()
    model.last.requires_grad_(False)
    model.last.bias.grad = None
    found = audit(model, table, optimizer=optimizer)
    assert (names(found.frozen), names(found.moving)) == (["last.bias"], ["last.weight"])
    assert names(found.accidents)[0] == "last.weight"
    assert "zero_grad(set_to_none=True)" in found.moving[0].why


def test_tensors_of_a_copy_are_foreign_and_the_model_s_own_are_missing() -> None:
    model, table = network()
    before = copy.deepcopy(model)
    found = audit(model, table, optimizer=AdamW(before.named_parameters(), lr=1e-3))
    assert len(found.foreign) == len(found.missing) == 16
    assert found.foreign[0].name == "embed.weight"
    assert "a copy of 'embed.weight'" in found.foreign[0].why
    assert len(found.accidents) == 32


def test_a_table_that_was_resized_after_the_optimizer_was_made_is_named() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model.embed = nn.Embedding(9, 4)
    found = audit(model, table, optimizer=optimizer)
    assert names(found.missing) == ["embed.weight"]
    (foreign,) = found.foreign
    assert foreign.name == "group 0, number 0"
    assert foreign.why.startswith("7x4, float32; has the shape, but for its length, of 'embed.wei")


def test_a_tensor_of_a_loss_is_foreign_until_it_is_audited_too() -> None:
    model, table = network()
    loss = nn.Linear(3, 3, bias=False)
    optimizer = AdamW([*model.parameters(), *loss.parameters()], lr=1e-3)
    (foreign,) = audit(model, table, optimizer=optimizer).foreign
    assert "nn.ModuleList([model, loss])" in foreign.why


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


def test_groups_that_could_be_one_and_rates_that_differ_are_told() -> None:
    model, table = network()
    groups = [{"params": [p], "weight_decay": 0.1} for p in model.parameters()]
    groups[0]["lr"] = 0.5
    found = audit(model, table, optimizer=AdamW(groups, lr=1e-3))
    assert found.groups == 16
    assert found.more_groups == (
        "group 1; group 2; group 3; group 4 and 11 more: equal settings, so these 15 could be one",
    )
    assert found.rates == (
        "0.5: group 0 (1 tensors)",
        "0.001: group 1; group 2; group 3; group 4 and 11 more (15 tensors)",
    )


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


def test_a_model_on_the_meta_device_is_audited_as_any_other() -> None:
    with torch.device("meta"):
        model = Network()
    table = categorize(Network(), IDS)
    found = audit(model, table, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    assert (found.decayed, found.accidents) == (16, ())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_fits_a_table_from_before(wrap: Any) -> None:
    model, table = network()
    found = audit(wrap(model), table, optimizer=AdamW(split(model, "bias", "norm"), lr=1e-3))
    assert names(found.accidents) == [
        name for name, _ in wrap(model).named_parameters() if name.endswith("last.weight")
    ]
    assert audit(wrap(model), table, rule="torchtitan").decayed == 16


def test_the_audit_is_plain_data_and_leaves_model_and_optimizer_alone() -> None:
    model, table = network()
    optimizer = AdamW(split(model, "bias"), lr=1e-3)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    data = audit(model, table, optimizer=optimizer).to_json()
    assert json.loads(json.dumps(data)) == data
    assert data["accidents"] == ["last.weight"]
    assert str(before) == str((model.state_dict(), optimizer.state_dict()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (AdamW, "not its class, got AdamW"),
        ([], "got an empty list"),
        ([None], "got a NoneType"),
        ("adamw", "got a str"),
        (nn.Linear(2, 2), "got a Linear"),
        (
            torch.optim.lr_scheduler.ConstantLR(AdamW([nn.Parameter(torch.ones(1))])),
            "got a ConstantLR; pass its .optimizer",
        ),
    ],
)
def test_what_is_no_optimizer_is_named(given: Any, message: str) -> None:
    model, table = network()
    with pytest.raises(GammaError, match=r"takes a torch\.optim\.Optimizer") as error:
        audit(model, table, optimizer=given)
    assert message in str(error.value)


def test_a_rule_beside_an_optimizer_a_table_of_another_model_and_no_model_are_errors() -> None:
    model, table = network()
    optimizer = AdamW(model.parameters())
    with pytest.raises(GammaError, match="rule='timm' has no effect beside optimizer="):
        audit(model, table, optimizer=optimizer, rule="timm")
    with pytest.raises(GammaError, match="'gain' is not in the gain table, which is of another"):
        audit(OnePlus(), table, rule="torchtitan")
    with pytest.raises(GammaError, match=r"audit takes a torch.nn.Module, not a AdamW"):
        audit(optimizer, table)  # type: ignore[call-overload]
