"""Sharded over processes, a run equals the one in a single process, whatever decays how."""

from __future__ import annotations

import copy
import dataclasses
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from gamma_nlp import DecayPolicy, GammaError, categorize, make_optimizer
from gamma_nlp.companions import (
    StrongRegularizer,
    UnitNorm,
    effective_lr,
    scale_invariant,
    sparsity_report,
)
from gamma_nlp.companions.effective_rate.callback import angles
from gamma_nlp.decay.announce import gain_norms
from gamma_nlp.decay.plan import plan_decay
from gamma_nlp.decay.samples import sample
from gamma_nlp.gains.table import GainTable
from tests.support.sharded_models import (
    IDS,
    equal,
    fsdp1,
    fsdp2,
    mesh_of_all,
    network,
    one_block,
    tensor_parallel,
    train,
    two_meshes,
    weights,
)
from tests.support.torchrun import two_processes

AdamW, SGD, HALF = torch.optim.AdamW, torch.optim.SGD, torch.bfloat16
EVERY = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 1.0}
ALL = DecayPolicy(**EVERY)
RATES = [1e-2] * 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """An optimizer with a policy."""

    kind: type[torch.optim.Optimizer] = AdamW
    policy: DecayPolicy = ALL
    weight_decay: float = 0.1
    dtype: torch.dtype = torch.float32
    options: Any = dataclasses.field(default_factory=dict)

    def optimizer(self, model: nn.Module, table: GainTable) -> torch.optim.Optimizer:
        return make_optimizer(
            self.kind,
            model,
            weight_decay=self.weight_decay,
            lr=1e-2,
            policy=self.policy,
            table=table,
            rates=RATES,
            **self.options,
        )


CASES = {
    "plain": Case(),
    "coupled": Case(kind=SGD, options={"momentum": 0.9}),
    "coupled by the hook": Case(policy=DecayPolicy(**EVERY, mode="coupled")),
    "decoupled by the hook": Case(kind=SGD, policy=DecayPolicy(**EVERY, mode="decoupled")),
    "start": Case(policy=DecayPolicy(**EVERY, target="start")),
    "cosine": Case(policy=DecayPolicy(**EVERY, target="one", schedule="cosine")),
    "normalized": Case(policy=DecayPolicy(**EVERY, schedules={"normalized": "lr_squared"})),
    "deferred": Case(weight_decay=2e-6),
    "deferred in half precision": Case(
        policy=DecayPolicy(**EVERY, target="one"), weight_decay=0.05, dtype=HALF
    ),
}


def decisions(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    keys = ("weight_decay", "gamma_part", "gamma_share", "gamma_center")
    return {
        name: [group.get(key) for key in keys]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


@dataclasses.dataclass
class Alone:
    """What a run in one process ends with."""

    weights: dict[str, Tensor]
    decisions: dict[str, Any]
    doses: dict[str, float | None]


def alone(case: Case, table: GainTable, steps: int) -> Alone:
    model = network(case.dtype)
    optimizer = case.optimizer(model, table)
    told, doses = decisions(optimizer), doses_of(optimizer)
    train(model, optimizer, range(steps))
    return Alone(weights(model), told, doses)


def doses_of(optimizer: torch.optim.Optimizer) -> dict[str, float | None]:
    rates: Any = [RATES] * len(optimizer.param_groups)
    return dict(plan_decay(optimizer, rates).doses)


def check(name: str, shard: Callable[[Any], nn.Module], of: Alone, table: Any, steps: int) -> None:
    case = CASES[name]
    model = shard(network(case.dtype))
    optimizer = case.optimizer(model, table)
    assert decisions(optimizer) == of.decisions, name
    assert doses_of(optimizer) == pytest.approx(of.doses)
    train(model, optimizer, range(steps))
    equal(model, of.weights, case.dtype)


def check_resume(name: str, of: Alone, table: Any, steps: int, load: Any) -> None:
    case, half = CASES[name], steps // 2
    first, second = fsdp2(network(case.dtype)), fsdp2(network(case.dtype))
    before, after = case.optimizer(first, table), case.optimizer(second, table)
    train(first, before, range(half))
    second.load_state_dict(first.state_dict())
    load(first, before, second, after)
    train(second, after, range(half, steps))
    equal(second, of.weights, case.dtype)


def by_state_dict(first: Any, before: Any, second: Any, after: Any) -> None:
    after.load_state_dict(copy.deepcopy(before.state_dict()))


def by_distributed_checkpoint(first: Any, before: Any, second: Any, after: Any) -> None:
    options = StateDictOptions(full_state_dict=True)
    state = get_optimizer_state_dict(first, before, options=options)
    set_optimizer_state_dict(second, after, state, options=options)


def check_other_policy(table: Any) -> None:
    """torch.distributed.checkpoint brings states by name into groups of other parameters."""
    first, second = fsdp2(network()), fsdp2(network())
    before = CASES["plain"].optimizer(first, table)
    after = dataclasses.replace(CASES["plain"], policy=DecayPolicy()).optimizer(second, table)
    present = decisions(after)
    train(first, before, range(2))
    by_distributed_checkpoint(first, before, second, after)
    assert decisions(after) == present
    names = dict(first.named_parameters())
    for name, p in second.named_parameters():
        moments = [
            o.state[q]["exp_avg"].full_tensor() for o, q in ((before, names[name]), (after, p))
        ]
        assert torch.equal(*moments), name


HELD = {"blocks.0.up.weight": (0, 5), "blocks.1.down.weight": (1, 4), "final.weight": (0, 1),
        "blocks.0.scale": (0, 1)}  # fmt: skip


def with_unit_norms(model: nn.Module) -> tuple[torch.optim.Optimizer, UnitNorm]:
    optimizer = AdamW(list(model.named_parameters()), lr=1e-2)
    unit = UnitNorm(optimizer, HELD, force=True)
    for name, (dim, count) in HELD.items():
        unit._held[name] = dataclasses.replace(unit._held[name], dim=dim, count=count)
    unit.norms = {n: v.clone() for n, v in zip(HELD, unit._norms(), strict=True)}
    return optimizer, unit


def trained_with_unit_norms(model: nn.Module, steps: int) -> tuple[dict[str, Tensor], Any]:
    optimizer, unit = with_unit_norms(model)
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, range(steps))
    turned = angles(before, list(model.parameters()))
    train_once(model)
    names = ["emb.weight", "blocks.0.up.weight", "final.weight"]
    rates = [dataclasses.astuple(one)[2:] for one in effective_lr(optimizer, names, model)]
    return weights(model), [turned, *rates, [float(v.sum()) for v in unit.norms.values()]]


def train_once(model: nn.Module) -> None:
    nn.functional.cross_entropy(model(IDS).float().flatten(0, 1), IDS.flatten()).backward()


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(GammaError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def check_fsdp1(of: Alone, table: Any, steps: int) -> None:
    model = fsdp1(network())
    optimizer = CASES["start"].optimizer(model, table)
    train(model, optimizer, range(steps))
    with FullyShardedDataParallel.summon_full_params(model):
        equal(model, of.weights)
    assert "'emb.weight' is sharded (FSDP1)" in refused(lambda: effective_lr(optimizer))
    assert "UnitNorm takes fully_shard or plain" in refused(
        lambda: UnitNorm(optimizer, ["blocks.0.up.weight"], force=True)
    )
    assert "StrongRegularizer takes plain data parallel" in refused(
        lambda: StrongRegularizer(optimizer, names=["blocks.0.up.weight"], l1=0.1)
    )


def check_samples() -> None:
    """A large tensor is not gathered, and its values still stand for all of it."""
    values = torch.linspace(0, 1, 300_001).unsqueeze(1)
    layer = nn.Linear(1, len(values), bias=False)
    layer.weight.data.copy_(values)
    found = sample(fully_shard(layer, mesh=mesh_of_all("all")).weight)
    assert len(found.values) <= 256
    mean = float((found.values * found.counts).sum() / found.counts.sum())
    assert mean == pytest.approx(0.5, abs=0.01)
    assert float(found.values.max()) > 0.98


def main(steps: int, names: list[str]) -> None:
    warnings.simplefilter("ignore")  # FSDP1 is on its way out
    torch.set_num_threads(1)
    table = categorize(network(), IDS)
    found = {name: alone(CASES[name], table, steps) for name in names}
    unit = trained_with_unit_norms(network(), steps)
    norms = gain_norms(network(), table)
    dist.init_process_group("gloo")
    assert str(categorize(network(), IDS)) == str(table)
    for name in names:
        check(name, fsdp2, found[name], table, steps)
    for name in ("plain", "deferred in half precision"):
        check(name, DistributedDataParallel, found[name], table, steps)
    for options in ({"foreach": True}, {"fused": True}):
        CASES["mixed"] = Case(options=options)
        for shard in (one_block, two_meshes, tensor_parallel):
            check("mixed", shard, found["plain"], table, steps)
    for name in ("start", "cosine", "deferred in half precision"):
        for load in (by_state_dict, by_distributed_checkpoint):
            check_resume(name, found[name], table, steps, load)
    check_other_policy(table)
    check_fsdp1(found["start"], table, steps)
    for shard in (fsdp2, two_meshes):
        sharded, figures = trained_with_unit_norms(shard(network()), steps)
        for name, w in sharded.items():
            assert (w - unit[0][name]).norm() <= 1e-6 * unit[0][name].norm(), name
        for one, expected in zip(figures, unit[1], strict=True):
            assert one == pytest.approx(expected, rel=1e-4, nan_ok=True)
    model = fsdp2(network())
    assert gain_norms(model, table) == pytest.approx(norms, rel=1e-6)
    own = AdamW(list(model.named_parameters()), lr=0.1)
    assert "is sharded (fully_shard, parallelize_module or tp_plan)" in refused(
        lambda: StrongRegularizer(own, names=["blocks.0.up.weight"], l1=0.1)
    )
    for call in (lambda: scale_invariant(model, IDS), lambda: sparsity_report(model)):
        assert "takes a whole model, as it is before that" in refused(call)
    check_samples()
    dist.destroy_process_group()


def test_sharded_run_equals_the_one_in_a_single_process() -> None:
    two_processes(__file__, "4")


def test_table_of_the_whole_model_fits_a_pipeline_stage_by_name() -> None:
    table = categorize(network(), IDS)
    whole = decisions(CASES["plain"].optimizer(network(), table))
    stage = network()
    del stage.emb, stage.head
    stage.blocks = nn.ModuleDict({"1": stage.blocks[1], "2": stage.blocks[2]})
    own = decisions(CASES["plain"].optimizer(stage, table))
    assert own == {name: whole[name] for name, _ in stage.named_parameters()}
    assert len(own) == len(whole) - 1 - 7  # without the embedding and one block


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_sharded_run_of_fifty_steps_equals_it_too(processes: int) -> None:
    two_processes(__file__, "50", processes=processes)


if __name__ == "__main__":
    main(int(sys.argv[1]), list(CASES))
