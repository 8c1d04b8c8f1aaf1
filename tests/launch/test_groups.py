"""Groups told ahead, on the meta device, against those that a run makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gamma_nlp import DecayPolicy, categorize, make_optimizer
from gamma_nlp.decay.assign import decays_for
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.launch.groups import group_plans, groups_of_run
from gamma_nlp.launch.needs import needs_of
from gamma_nlp.launch.states import states_of

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 32},
    "gemma3_text": {**SIZES, "intermediate_size": 16, "num_key_value_heads": 1, "head_dim": 4},
    "mixtral": {**SIZES, "intermediate_size": 16, "num_key_value_heads": 1, "num_local_experts": 2},
}
POLICIES = {
    "guidelines": DecayPolicy.load("guidelines"),
    "all": DecayPolicy.load("all"),
    "coupled": DecayPolicy(mode="coupled"),
    "start": DecayPolicy(target="start"),
}
RATES = [1e-3] * 50


def built(kind: str, device: str, dtype: torch.dtype) -> Any:
    config = AutoConfig.for_model(kind, **MODELS[kind])
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config).to(dtype)


def as_told(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("gamma_part", "gamma_mode", "gamma_center", "gamma_share")
    return [
        (group["weight_decay"], group["param_names"], *(group.get(key) for key in keys))
        for group in groups
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", MODELS)
def test_groups_are_those_of_make_optimizer(kind: str, policy: str, dtype: torch.dtype) -> None:
    model = built(kind, "cpu", dtype)
    optimizer = make_optimizer(
        torch.optim.AdamW,
        model,
        weight_decay=0.1,
        lr=1e-3,
        policy=POLICIES[policy],
        rates=RATES,
    )
    bare = built(kind, "meta", dtype)
    table = categorize(bare)
    decays = decays_for(bare, weight_decay=0.1, policy=POLICIES[policy], table=table)
    told = groups_of_run(bare, table, decays, native="decoupled", rates=RATES, processes=1)
    assert as_told(told) == as_told(optimizer.param_groups)


def told_by(kind: str, optim: str = "adamw_torch", **fields: Any) -> Any:
    policy = DecayPolicy(**fields)
    model = built(kind, "meta", torch.bfloat16)
    table = categorize(model)
    states = states_of(optim)
    native = native_mode(states.cls)
    decays = decays_for(model, weight_decay=0.1, policy=policy, table=table)
    groups = groups_of_run(model, table, decays, native=native, rates=RATES, processes=2)
    needs = needs_of(groups, model, optimizer=states.cls, native=native, planned=True, cut=True)
    return group_plans(groups, table), needs


def test_a_group_says_what_it_holds() -> None:
    plans, _ = told_by("gemma3_text", rounding="keep", target="stored")
    held = [dict(plan.holds) for plan in plans]
    assert held == [
        {"embedding": 1, "weight": 14, "branch_inner": 8, "branch_last": 4},
        {"head": 1},
    ]


@pytest.mark.parametrize(
    ("kind", "optim", "fields", "why"),
    [
        ("gpt2", "adamw_torch", {"rounding": "keep"}, []),
        ("gpt2", "adamw_torch", {}, ["decay that rounding would cancel, gathered"]),
        ("gpt2", "sgd", {}, []),  # L2 in the gradient is not gathered
        ("gpt2", "sgd", {"mode": "decoupled", "rounding": "keep"},
         ["decoupled decay, where the optimizer's own is coupled"]),
        ("gpt2", "adamw_torch", {"target": "start", "rounding": "keep"},
         ["decay toward the first value"]),
        ("gemma3_text", "adamw_torch", {},
         ["decay that rounding would cancel, gathered", "decay of 1 + w toward gain 0"]),
        ("gemma3_text", "adamw_torch", {"rounding": "keep"}, ["decay of 1 + w toward gain 0"]),
        ("gemma3_text", "adamw_torch", {"rounding": "keep", "target": "stored"}, []),
        ("gpt2", "adamw_torch", {"rounding": "keep", "schedule": {"kind": "cosine"}},
         ["the schedule 'cosine'"]),
    ],
)  # fmt: skip
def test_why_a_hook_is_needed(
    kind: str, optim: str, fields: dict[str, Any], why: list[str]
) -> None:
    _, needs = told_by(kind, optim, **fields)
    assert [reason.what for reason in needs.hook] == why
    assert needs.deferred == ("decay that rounding would cancel, gathered" in why)
