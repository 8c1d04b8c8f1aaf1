"""What a run runs on: packages, processes, threads, and what to note down of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.workers import usable_cores

MOST_THREADS = 1024
"""More end torch without a word on machines that cannot start them."""


def check_processes(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be the only process of a launch that asked for several.

    ``accelerate launch --num_processes 2 --cpu`` silently starts one process. It shows in a
    rendezvous address without other processes.

    Raises:
        GammaError: That is what happened.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment
    alone = not any(
        key in environment
        for key in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    )
    if launched and alone and "MASTER_ADDR" in environment:
        raise GammaError(
            "accelerate launch was asked for several processes and started one, as it does with "
            "--cpu. Use `torchrun --nproc_per_node N` instead (with --use_cpu true on CPU), or "
            "--num_processes 1; if MASTER_ADDR comes from your cluster, unset it"
        )


def set_threads(wanted: int | None) -> int:
    """Use ``wanted`` CPU threads and return how many are in use.

    ``accelerate launch`` sets ``OMP_NUM_THREADS=1`` for a run on CPU. Under it the default is all
    cores, shared among the processes of this machine; elsewhere torch's own choice stands.

    Raises:
        GammaError: ``wanted`` cannot be.
    """
    check_threads(wanted, "cpu_threads")
    if wanted is None and "ACCELERATE_MIXED_PRECISION" in os.environ:
        wanted = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def check_threads(wanted: int | None, option: str) -> None:
    """Refuse a number of threads that cannot be; ``option`` is what it was given to.

    Raises:
        GammaError: It is below 1, or too many to start.
    """
    if wanted is not None and wanted < 1:
        raise GammaError(f"{option} must be at least 1, not {wanted}")
    if wanted is not None and wanted > MOST_THREADS:
        raise GammaError(f"{option} must be at most {MOST_THREADS}, not {wanted}")


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what a run computed on, without anything that identifies the machine."""
    summary: dict[str, Any] = {"device": device.type}
    if device.type == "cuda":
        summary["gpu"] = torch.cuda.get_device_name(device)
        summary["gpu_memory_gib"] = round(
            torch.cuda.get_device_properties(device).total_memory / 2**30, 1
        )
    summary |= {
        "processor": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }
    return summary
