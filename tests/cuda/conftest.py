"""Tests of what a GPU may do differently; they run on any device, and are skipped without one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

VARIABLE = "GAMMA_NLP_TEST_DEVICE"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _device() is None:
        pytest.skip(f"there is no GPU; {VARIABLE}=cpu runs this on the CPU")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU, or what the variable names."""
    return torch.device(_device() or "cpu")


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """As ``device``, for what only a GPU has."""
    if device.type != "cuda":
        pytest.skip("only a GPU has this")
    return device


@pytest.fixture
def one_process(device: torch.device) -> Iterator[None]:
    """A process group with this process alone."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def _device() -> str | None:
    return os.environ.get(VARIABLE) or ("cuda" if torch.cuda.is_available() else None)
