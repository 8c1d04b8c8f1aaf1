"""What optimizers hold inside the wrappers of others, and as copies in float32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import audit
from gamma_nlp.check.audit.optimizer_report import OptimizerAudit
from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Gain, GainTable

AdamW = torch.optim.AdamW


def model_and_table(dtype: torch.dtype = torch.bfloat16) -> tuple[nn.Module, GainTable]:
    """A model whose gains are equal, as they are before training."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4))
    gains = tuple(
        Gain(name=f"{n}.weight", category=category, kind="layer_norm", offset=0.0, source="graph",
             reason="", dtype="bfloat16", numel=4)
        for n, category in ((1, Category.BRANCH_INNER), (3, Category.HEAD))
    )  # fmt: skip
    roles = {"0.weight": Role.WEIGHT, "0.bias": Role.BIAS, "1.bias": Role.SHIFT,
             "2.weight": Role.WEIGHT, "2.bias": Role.BIAS, "3.bias": Role.SHIFT}  # fmt: skip
    return model.to(dtype), GainTable(gains=gains, roles=roles, model="Model")


DECAYED = {"0.weight", "1.weight", "2.weight"}


def groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """Two lists: what decays, and the rest."""
    named = list(model.named_parameters())
    return [[p for n, p in named if n in DECAYED], [p for n, p in named if n not in DECAYED]]


def settings(decayed: Any, rest: Any) -> list[dict[str, Any]]:
    return [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]


def is_right(found: OptimizerAudit) -> bool:
    """Whether the audit tells what these groups do."""
    decayed = {act.what: act.decayed for act in found.acts if act.decayed}
    assert (found.missing, found.twice, found.foreign) == ((), (), ())
    return decayed == {"gain, branch_inner": 1, "weight": 2} and found.accidents == ()


@pytest.mark.needs("accelerate")
def test_inside_accelerate_s_wrapper() -> None:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    Accelerator(cpu=True)  # without one the wrapper cannot be made
    model, table = model_and_table()
    wrapped = AcceleratedOptimizer(AdamW(settings(*groups(model))), device_placement=False)
    found = audit(model, table, optimizer=wrapped)
    assert is_right(found) and found.rule == "AdamW"
    assert is_right(audit(model, table, optimizer=AcceleratedOptimizer(wrapped, False)))


class Zero:
    """DeepSpeed's ZeRO 1 and 2: the optimizer inside steps one flat tensor per group."""

    def __init__(self, model: nn.Module) -> None:
        self.bit16_groups = groups(model)
        flat = [torch.cat([p.detach().float().flatten() for p in own]) for own in groups(model)]
        self.optimizer = AdamW(settings(*[[nn.Parameter(one)] for one in flat]), lr=1e-4)

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups


class ZeroThree(Zero):
    """ZeRO 3: sub-groups, and no tensors in the groups between steps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        decayed, rest = self.__dict__.pop("bit16_groups")
        self.fp16_groups = [decayed[:1], decayed[1:], rest]
        self.sub_group_to_group_id = {0: 0, 1: 0, 2: 1}
        for group in self.optimizer.param_groups:
            group["params"] = []


@pytest.mark.parametrize("kind", [Zero, ZeroThree])
def test_inside_deepspeed_s_wrappers(kind: Any) -> None:
    model, table = model_and_table()
    found = audit(model, table, optimizer=kind(model))
    assert is_right(found)
    assert found.cancelled == ()  # it steps in float32


@pytest.mark.parametrize("flat", [False, True])
def test_inside_fairseq_s_fp16_optimizer(flat: bool) -> None:
    model, table = model_and_table(torch.float16)
    halved = list(model.parameters())
    if flat:
        one = nn.Parameter(torch.cat([p.detach().float().flatten() for p in halved]))
        full: Any = {halved[0].device.index: one}
        inner = AdamW([one], lr=1e-4, weight_decay=0.1)
    else:
        full = [nn.Parameter(p.detach().float()) for p in halved]
        by_name = dict(zip((n for n, _ in model.named_parameters()), full, strict=True))
        inner = AdamW(
            settings(
                [p for n, p in by_name.items() if n in DECAYED],
                [p for n, p in by_name.items() if n not in DECAYED],
            )
        )
    fairseq = SimpleNamespace(optimizer=inner, param_groups=inner.param_groups)
    wrapped = SimpleNamespace(
        fp16_params=halved, fp32_params=full, fp32_optimizer=fairseq, optimizer=inner,
        param_groups=inner.param_groups,
    )  # fmt: skip
    found = audit(model, table, optimizer=wrapped)
    if flat:
        assert (found.decayed, found.missing, found.foreign) == (8, (), ())
    else:
        assert is_right(found) and found.masters == 8


@pytest.mark.parametrize("key", ["optimizers", "chained_optimizers", "optimizer_dict"])
def test_a_container_of_several_optimizers_is_opened(key: str) -> None:
    model, table = model_and_table()
    decayed, rest = groups(model)
    several: Any = [AdamW(decayed, weight_decay=0.1), AdamW(rest, weight_decay=0.0)]
    if key == "optimizer_dict":  # layer-wise: its own group holds a dummy
        several = dict(zip("ab", several, strict=True))
    container = AdamW([torch.zeros(1)])
    setattr(container, key, several)
    found = audit(model, table, optimizer=container)
    assert is_right(found)
    assert found.decayed_as_under_guidelines[0].why == "weight_decay is 0.1 in AdamW 1, group 0"


@pytest.mark.parametrize("alone", [True, False])
def test_what_lightning_is_given_is_opened_without_its_schedulers(alone: bool) -> None:
    model, table = model_and_table()
    optimizer = AdamW(settings(*groups(model)), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    given: Any = {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}
    assert is_right(audit(model, table, optimizer=given if alone else ([optimizer], [scheduler])))


@pytest.mark.parametrize("key", ["optim", "base_optimizer"])
def test_the_class_that_makes_the_steps_tells_how_decay_acts(key: str) -> None:
    model, table = model_and_table()

    class Wrapper(torch.optim.Optimizer):
        """Has all groups, as ZeroRedundancyOptimizer has; the one inside has a part."""

    wrapper = Wrapper(settings(*groups(model)), {"lr": 1e-3})
    setattr(wrapper, key, AdamW(list(model.parameters())[:2]))
    found = audit(model, table, optimizer=wrapper)
    assert is_right(found) and found.rule == "AdamW"
    assert {mode for act in found.acts for mode in act.modes} == {"decoupled"}


def copies(model: nn.Module, *, names: bool) -> list[dict[str, Any]]:
    """Groups of copies in float32, as mixed precision by hand makes them."""
    of = {id(p): name for name, p in model.named_parameters()}
    made = settings(*[[nn.Parameter(p.detach().float()) for p in own] for own in groups(model)])
    if names:
        for group, own in zip(made, groups(model), strict=True):
            group["params"] = list(zip((of[id(p)] for p in own), group["params"], strict=True))
    return made


def test_master_copies_with_names_are_recognised() -> None:
    model, table = model_and_table()
    found = audit(model, table, optimizer=AdamW(copies(model, names=True)))
    assert is_right(found) and found.masters == 8
    assert "8 of them as copies in float32" in str(found)


def test_master_copies_at_the_parameters_are_recognised() -> None:
    model, table = model_and_table()
    made = copies(model, names=False)
    for group, own in zip(made, groups(model), strict=True):
        for copy, p in zip(group["params"], own, strict=True):
            p.main_param = copy  # type: ignore[attr-defined]  # as Megatron does
    assert is_right(audit(model, table, optimizer=AdamW(made)))


def test_master_copies_without_names_are_recognised_by_their_values_alone() -> None:
    model, table = model_and_table()
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.add_(number / 16)
    assert is_right(audit(model, table, optimizer=AdamW(copies(model, names=False))))


def test_copies_that_cannot_be_told_apart_are_no_guess() -> None:
    model, table = model_and_table()  # both gains are 1, and one of them decays
    found = audit(model, table, optimizer=AdamW(copies(model, names=False)))
    assert [one.name for one in found.missing] == ["1.weight", "3.weight"]
    assert all("groups with names would tell which" in one.why for one in found.foreign)
    same = [{**group, "weight_decay": 0.1} for group in copies(model, names=False)]
    found = audit(model, table, optimizer=AdamW(same))
    assert (found.missing, found.foreign, found.masters) == ((), (), 8)
