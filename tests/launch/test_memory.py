"""Bytes of one process: against hand-computed numbers, the ZeRO paper and what torch allocates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.memory import memory_of
from gamma_nlp.launch.states import States

ADAMW = States(cls=torch.optim.AdamW)
STEP = 4  # bytes of AdamW's step, for each tensor


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """64 x 16 and 64, 64, 10 x 64: 1,792 numbers in 4 tensors, the last frozen (640)."""
    model = nn.Sequential(nn.Linear(16, 64), nn.RMSNorm(64), nn.Linear(64, 10, bias=False))
    model[2].weight.requires_grad_(False)
    return model.to("meta", dtype)


TRAINED, FROZEN, TENSORS = 64 * 16 + 64 + 64, 640, 3


def groups_of(model: nn.Module, **keys: Any) -> list[dict[str, Any]]:
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() == 1]
    return [{"params": weights, **keys}, {"params": vectors, **keys}]


def sizes(launch: Launch, dtype: torch.dtype = torch.float32, **keys: Any) -> dict[str, int]:
    model = network(dtype)
    parts = memory_of(model, groups_of(model, **keys), launch, ADAMW)
    return {part.what: part.bytes for part in parts}


def deepspeed(stage: int, **changes: Any) -> Launch:
    return Launch(engine="DeepSpeed", processes=4, shard=4, stage=stage, **changes)


STATE = 8 * TRAINED + STEP * TENSORS

BY_HAND: dict[str, tuple[Launch, torch.dtype, dict[str, int]]] = {
    "one process, fp32": (
        Launch(),
        torch.float32,
        {
            "weights": 4 * (TRAINED + FROZEN),
            "gradients": 4 * TRAINED,
            "optimizer state": STATE,
        },
    ),
    "one process, bf16": (
        Launch(precision="bf16"),
        torch.bfloat16,
        {
            "weights": 2 * (TRAINED + FROZEN),
            "gradients": 2 * TRAINED,
            "optimizer state": 4 * TRAINED + STEP * TENSORS,
        },
    ),
    "DDP": (
        Launch(engine="DDP", processes=4),
        torch.float32,
        {
            "weights": 4 * (TRAINED + FROZEN),
            "gradients": 4 * TRAINED,
            "gradient buckets": 4 * TRAINED,
            "optimizer state": STATE,
        },
    ),
    "FSDP2 of bf16 without mixed precision": (
        Launch(engine="FSDP2", processes=4, shard=4),
        torch.bfloat16,
        {  # 10 rows of the frozen matrix in 4 are 3
            "weights": 2 * (TRAINED // 4 + 3 * 64),
            "gradients": 2 * TRAINED // 4,
            "optimizer state": 4 * TRAINED // 4 + STEP * TENSORS,
        },
    ),
    "FSDP2 of bf16 with mixed precision": (
        Launch(engine="FSDP2", processes=4, shard=4, precision="bf16"),
        torch.bfloat16,
        {  # what is trained is kept in float32
            "weights": 4 * TRAINED // 4 + 2 * 3 * 64,
            "gradients": 4 * TRAINED // 4,
            "optimizer state": 8 * TRAINED // 4 + STEP * TENSORS,
        },
    ),
    "FSDP2 that keeps whole weights": (
        Launch(engine="FSDP2", processes=4, shard=2, precision="bf16", gathered=True),
        torch.float32,
        {
            "weights": 4 * (TRAINED + FROZEN) // 2,
            "gathered weights": 2 * (TRAINED + FROZEN),
            "gradients": 4 * TRAINED // 2,
            "optimizer state": 8 * TRAINED // 2 + STEP * TENSORS,
        },
    ),
    "ZeRO 1 in fp32 trains a copy as well": (
        deepspeed(1),
        torch.float32,
        {
            "weights": 4 * (TRAINED + FROZEN),
            "master weights": 4 * TRAINED // 4,
            "gradients": 4 * TRAINED,
            "optimizer state": 8 * TRAINED // 4 + STEP * 2,  # two groups, flat
        },
    ),
    "ZeRO 1 that gathers in fp32": (
        deepspeed(1, precision="bf16", gradient_dtype="fp32"),
        torch.float32,
        {
            "weights": 2 * (TRAINED + FROZEN),
            "master weights": 4 * TRAINED // 4,
            "gradients": 4 * TRAINED,
            "optimizer state": 8 * TRAINED // 4 + STEP * 2,
        },
    ),
    "ZeRO 2 of bf16 without mixed precision": (
        deepspeed(2),
        torch.bfloat16,
        {  # weights keep their dtype, and DeepSpeed takes the model for one in float32
            "weights": 2 * (TRAINED + FROZEN),
            "master weights": 4 * TRAINED // 4,
            "gradients": 4 * TRAINED // 4,
            "optimizer state": 8 * TRAINED // 4 + STEP * 2,
        },
    ),
    "ZeRO 0": (
        deepspeed(0),
        torch.bfloat16,
        {
            "weights": 2 * (TRAINED + FROZEN),
            "gradients": 2 * TRAINED,
            "optimizer state": 4 * TRAINED + STEP * TENSORS,
        },
    ),
    "ZeRO 0 with mixed precision": (
        deepspeed(0, precision="bf16"),
        torch.float32,
        {
            "weights": 2 * (TRAINED + FROZEN),
            "master weights": 4 * TRAINED,
            "gradients": 2 * TRAINED,
            "optimizer state": STATE,
        },
    ),
}


@pytest.mark.parametrize(("launch", "dtype", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_bytes_by_hand(launch: Launch, dtype: torch.dtype, expected: dict[str, int]) -> None:
    assert sizes(launch, dtype) == expected


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_deepspeed_agrees_with_the_papers_formula(stage: int, precision: Any) -> None:
    """2 P for weights, 2 P for gradients, 12 P for AdamW in mixed precision (its table 1)."""
    own = sizes(deepspeed(stage, precision=precision))
    weights = own["weights"] - 2 * FROZEN // (4 if stage == 3 else 1)
    steps = STEP * (TENSORS if stage == 3 else 2)
    state = own["master weights"] + own["optimizer state"] - steps
    assert weights == 2 * TRAINED // (4 if stage == 3 else 1)
    assert own["gradients"] == 2 * TRAINED // (4 if stage >= 2 else 1)
    assert state == 12 * TRAINED // 4


def test_groups_of_deepspeed_are_padded_to_equal_parts() -> None:
    model = nn.Linear(3, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    parts = memory_of(model, groups, deepspeed(2, precision="bf16"), ADAMW)
    by_kind = {part.what: part.bytes for part in parts}
    assert by_kind["master weights"] == 4 * (2 + 2)  # 3 and 1 numbers, each in 4 parts of 2


def test_offloaded_parts_are_named_by_place() -> None:
    model = network()
    launch = deepspeed(3, precision="bf16", optimizer_on="NVMe", weights_on="CPU")
    places = {p.what: p.place for p in memory_of(model, groups_of(model), launch, ADAMW)}
    assert places == {
        "weights": "CPU",
        "master weights": "NVMe",
        "gradients": "CPU",
        "optimizer state": "NVMe",
    }


def test_first_values_that_decay_pulls_to_are_state() -> None:
    more = sizes(Launch(), gamma_center="start")["optimizer state"]
    assert more == STATE + 4 * TRAINED


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8, bias=False))
    model[1].weight = model[0].weight
    parts = memory_of(model, [{"params": [model[0].weight]}], Launch(), ADAMW)
    assert parts[0].bytes == 4 * 32


def test_tensor_parallel_cuts_along_the_dimension_that_is_told() -> None:
    model = network()
    launch = Launch(engine="DDP", processes=2, tensor=2)
    cut = {"0.weight": 0, "2.weight": 1}
    parts = memory_of(model, groups_of(model), launch, ADAMW, cut)
    assert parts[0].bytes == 4 * (64 * 16 // 2 + 64 + 64 + 640 // 2)


# Against what torch allocates -----------------------------------------------------------------


def test_one_process_allocates_as_told() -> None:
    model = network().to_empty(device="cpu")
    groups = groups_of(model)
    optimizer = torch.optim.AdamW([{"params": group["params"]} for group in groups])
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    told = {part.what: part.bytes for part in memory_of(model, groups, Launch(), ADAMW)}
    assert told == {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        "optimizer state": sum(
            one.nbytes for state in optimizer.state.values() for one in state.values()
        ),
    }


@pytest.fixture
def four_processes() -> Iterator[Any]:
    """The first of four, the others being imagined."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


def test_fsdp2_holds_as_told(four_processes: Any) -> None:
    model = network().to_empty(device="cpu")
    launch = Launch(engine="FSDP2", processes=4, shard=4)
    told = {part.what: part.bytes for part in memory_of(model, groups_of(model), launch, ADAMW)}
    fully_shard(model, mesh=four_processes)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, foreach=False)
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()

    def local(tensor: Any) -> int:
        return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).nbytes

    assert told == {
        "weights": sum(local(p) for p in model.parameters()),
        "gradients": sum(local(p.grad) for p in trained),
        "optimizer state": sum(
            local(one) for state in optimizer.state.values() for one in state.values()
        ),
    }
