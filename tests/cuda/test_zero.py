"""DeepSpeed ZeRO 1, 2 and 3 in one process: every parameter decays as in a plain loop."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from gamma_nlp import DecayPolicy, categorize, make_optimizer
from tests.support.families import FAMILIES

pytestmark = [pytest.mark.cuda, pytest.mark.needs("deepspeed")]
EVERY = {"branch_inner": 1.0, "branch_last": 1.0, "shortcut": 1.0, "head": 0.5}
STEPS = 5


@pytest.fixture(scope="module")
def deepspeed(device: torch.device) -> Iterator[Any]:
    """The package, with a process group of this process alone."""
    places = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**places, "MASTER_PORT": "29511"}.items():
            patch.setenv(name, value)
        if device.type == "cpu":
            patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setitem(sys.modules, "fairseq", None)  # tried bare, which Python 3.11 refuses
        import deepspeed

        if device.type == "cpu":  # would be compiled, for several processes to share memory
            collectives = importlib.import_module("deepspeed.comm.torch")
            patch.setattr(collectives, "build_shm_op", lambda: None)
        deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", verbose=False)
        yield deepspeed
        dist.destroy_process_group()


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_silent_parameters_decay_as_in_the_plain_loop(
    name: str, stage: int, device: torch.device, deepspeed: Any
) -> None:
    from deepspeed.utils import safe_get_full_fp32_param

    family = FAMILIES[name]
    inputs = {key: value.to(device) for key, value in family.inputs().items()}

    def build() -> tuple[Any, torch.optim.Optimizer]:
        model: Any = family.build().to(device)
        optimizer = make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.5, lr=1e-2, policy=DecayPolicy(**EVERY),
            table=categorize(model, inputs), rates=[1e-2] * STEPS,
        )  # fmt: skip
        return model, optimizer

    plain, stepper = build()
    for _ in range(STEPS):
        stepper.zero_grad()
        (0 * plain(**inputs, labels=inputs["input_ids"]).loss).backward()
        stepper.step()
    start = dict(family.build().to(device).named_parameters())
    moved = {key for key, p in plain.named_parameters() if not torch.equal(p, start[key])}
    assert any("norm" in key or "ln_" in key for key in moved)
    model, optimizer = build()
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
        },
    )
    for _ in range(STEPS):
        engine.backward(0 * engine(**inputs, labels=inputs["input_ids"]).loss)
        engine.step()
    for key, p in model.named_parameters():
        value = plain.get_parameter(key).detach()
        found = safe_get_full_fp32_param(p).to(value)
        assert torch.equal(found, start[key].detach()) == (key not in moved), key
        torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-7, msg=key)
