"""fully_shard on one device changes nothing: DTensor parameters decay as plain ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gamma_nlp import DecayPolicy, categorize, make_optimizer
from tests.support.families import FAMILIES

pytestmark = pytest.mark.cuda
EVERY = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 1.0}
POLICIES = {
    "toward zero": DecayPolicy(**EVERY),
    "toward start": DecayPolicy(**EVERY, target="start"),
    "in the gradient": DecayPolicy(**EVERY, mode="coupled"),
}


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_a_sharded_run_equals_the_plain_one(name: str, policy: str, device: torch.device) -> None:
    family = FAMILIES[name]
    inputs = {key: value.to(device) for key, value in family.inputs().items()}
    table = categorize(family.build().to(device), inputs)

    def run(*, sharded: bool) -> dict[str, torch.Tensor]:
        model: Any = family.build().to(device)
        model.set_attn_implementation("eager")  # fused attention adds up in any order
        if sharded:
            mesh = init_device_mesh(device.type, (1,))
            for block in model.transformer.h if name == "gpt2" else model.model.layers:
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        optimizer = make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.1, lr=1e-2, policy=POLICIES[policy],
            table=table, rates=[1e-2] * 10,
        )  # fmt: skip
        for _ in range(10):
            optimizer.zero_grad()
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
            optimizer.step()
        return {
            key: (p.full_tensor() if sharded else p).detach() for key, p in model.named_parameters()
        }

    plain, sharded = run(sharded=False), run(sharded=True)
    assert plain.keys() == sharded.keys()
    for key, value in plain.items():
        assert (sharded[key] - value).norm() <= 1e-5 * value.norm(), key
