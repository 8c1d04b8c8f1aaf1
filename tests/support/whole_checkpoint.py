"""A checkpoint that a run can continue from, as far as its files tell."""

from __future__ import annotations

import json
from pathlib import Path

from gamma_nlp.tasks.run.manifest import seal


def whole_checkpoint(run: Path, step: int) -> Path:
    """Write a sealed checkpoint of a run and return its folder."""
    path = run / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.bin", "optimizer.pt.bin", "scheduler.pt.bin", "rng_state.bin"):
        (path / name).write_bytes(b"1")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    seal(path)
    return path
