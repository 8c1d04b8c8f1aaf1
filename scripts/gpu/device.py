"""The GPU in words."""

from __future__ import annotations

import os

import torch
from parts import Note, Settings
from table import Row


def run(settings: Settings, note: Note) -> None:
    """Note the name and the memory of the GPU; raise where there is none."""
    if torch.version.cuda is None:
        raise RuntimeError(f"torch {torch.__version__} was built without CUDA")
    torch.cuda.init()
    torch.ones(1, device="cuda").add_(1).item()  # it computes
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    count = torch.cuda.device_count()
    name = f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}"
    more = f" (one of {count})" if count > 1 else ""
    note(Row("device", f"{name}{more}, {os.cpu_count()} CPU cores", "", None, "", {"test": True}))
