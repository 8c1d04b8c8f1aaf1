from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.optimizer import decay_groups
from gamma_nlp.gains.table import GainTable
from gamma_nlp.hf.optimizer import (
    fit_groups,
    group_names,
    made_here,
    refuse_deepspeed,
    refuse_hook,
    refuse_name,
)
from gamma_nlp.hf.resume import check_partitions, decays, fitted_loading, reapply, with_names


def two_layers() -> tuple[nn.Module, GainTable]:
    from gamma_nlp import categorize

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    return model, categorize(model, torch.randn(1, 2))


def groups_of(model: nn.Module, table: GainTable) -> list[dict[str, Any]]:
    native = native_mode(torch.optim.AdamW)
    return decay_groups(model, native=native, weight_decay=0.1, policy="none", table=table)[0]


def names(groups: Any) -> list[list[str]]:
    return [group["param_names"] for group in groups]


def test_each_device_mesh_has_groups_of_its_own() -> None:
    model, table = two_layers()
    for parameter in model[1].parameters():
        parameter.device_mesh = "second mesh"  # as a DTensor has it
    groups = fit_groups(groups_of(model, table), None, model)
    assert names(groups) == [["0.weight"], ["1.weight"], ["0.bias"], ["1.bias"]]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1, 0.0, 0.0]


def test_parameters_missing_in_the_given_groups_are_not_trained() -> None:
    model, table = two_layers()
    given = [{"params": list(model[1].parameters()), "lr": 0.5}]
    groups = fit_groups(groups_of(model, table), given, model)
    assert names(groups) == [["1.weight"], ["1.bias"]]
    assert [group["lr"] for group in groups] == [0.5, 0.5]
    assert group_names(given, model) == [["1.weight", "1.bias"]]


def deepspeed(config: dict[str, Any]) -> Any:
    parsed = SimpleNamespace(config=config)
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(hf_ds_config=parsed))
    return SimpleNamespace(is_deepspeed_enabled=True, accelerator=SimpleNamespace(state=state))


def test_deepspeed_may_not_make_the_optimizer_or_hide_the_hook() -> None:
    for stage in (1, 2, 3):
        trainer = deepspeed({"zero_optimization": {"stage": stage}})
        refuse_deepspeed(trainer)
        refuse_hook(trainer, "all", "AdamW")
    with pytest.raises(GammaError, match=r'remove "optimizer": \{...\} from it'):
        refuse_deepspeed(deepspeed({"optimizer": {"type": "AdamW"}}))
    offloaded = deepspeed({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})
    refuse_deepspeed(offloaded)
    with pytest.raises(GammaError, match=r'policy \'all\' .*"offload_optimizer": .*"none"'):
        refuse_hook(offloaded, "all", "AdamW")


def test_deepspeed_checkpoint_of_other_processes_is_refused_before_it_is_loaded(
    tmp_path: Path,
) -> None:
    check_partitions(str(tmp_path), 4)
    folder = tmp_path / "global_step6"
    folder.mkdir()
    for rank in range(2):  # bf16_ before it in half precision
        (folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    check_partitions(str(tmp_path), 2)
    with pytest.raises(GammaError, match=r"saved by 2 processes .* has 4.* Start 2 processes, or"):
        check_partitions(str(tmp_path), 4)


@pytest.mark.parametrize(
    ("optim", "why"),
    [
        ("galore_adamw_layerwise", "it chooses its own parameter groups"),
        ("newer_adamw_layerwise", "it is one optimizer per parameter"),
        ("adalomo", "it updates parameters during the backward pass"),
    ],
)
def test_optimizers_without_groups_are_refused_by_their_name(optim: str, why: str) -> None:
    with pytest.raises(GammaError, match=f"optim='{optim}' cannot take a decay policy: {why}"):
        refuse_name(optim)
    refuse_name("adamw_torch_fused")


def test_only_optimizers_of_this_library_count_as_made_here() -> None:
    model, table = two_layers()
    ours = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, policy="none", lr=0.1, table=table
    )
    assert made_here(ours) and made_here(SimpleNamespace(optimizer=ours))
    assert not made_here(torch.optim.AdamW(groups_of(model, table)))


def test_decay_that_a_foreign_loader_overwrote_is_put_back() -> None:
    model, table = two_layers()
    ours = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, policy="none", lr=0.1, table=table
    )
    present = decays(ours)
    for group in ours.param_groups:
        group.update(weight_decay=7.0, gamma_part="all", gamma_due=0.5)
    reapply(ours, present)
    assert [group["weight_decay"] for group in ours.param_groups] == [0.1, 0.0]
    # How far deferred decay has come is the saved state's.
    assert [group["gamma_due"] for group in ours.param_groups] == [0.5, 0.5]
    assert not any("gamma_part" in group for group in ours.param_groups)
    with pytest.raises(GammaError, match="2 parameter groups, this policy makes 1"):
        reapply(ours, present[:1])


def test_parameters_outside_the_model_keep_decay_and_rate_unless_frozen() -> None:
    model, table = two_layers()
    outside, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    given = [
        {"params": list(model.parameters())},
        {"params": [frozen, outside], "lr": 0.5, "weight_decay": 0.3},
    ]
    *_, last = fit_groups(groups_of(model, table), given, model)
    assert last["params"] == [outside] and last["param_names"] == ["outside_model.1"]
    assert (last["lr"], last["weight_decay"]) == (0.5, 0.3)


def test_loading_is_fitted_inside_the_block_only() -> None:
    model, table = two_layers()
    ours = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, policy="none", lr=0.1, table=table
    )
    scheduler = torch.optim.lr_scheduler.ConstantLR(ours)
    held = [set(vars(one)) for one in (ours, scheduler)]
    with fitted_loading(ours, scheduler, []):
        assert "load_state_dict" in vars(ours) and "load_state_dict" in vars(scheduler)
    assert [set(vars(one)) for one in (ours, scheduler)] == held


def test_a_state_of_other_shapes_or_sizes_is_not_the_stock_trainers() -> None:
    model, table = two_layers()
    ours = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, policy="none", lr=0.1, table=table
    )
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    stock = torch.optim.AdamW(other.parameters(), lr=0.1)
    other(torch.ones(1, 2)).sum().backward()
    stock.step()
    names = [["0.weight", "0.bias", "1.weight", "1.bias"]]
    with pytest.raises(GammaError, match=r"'1\.weight' has shape \(3, 2\), the parameter \(2, 2\)"):
        with_names(stock.state_dict(), ours, names)
    with pytest.raises(GammaError, match=r"groups of \[4\] parameters without names"):
        with_names(stock.state_dict(), ours, [names[0][:3]])
