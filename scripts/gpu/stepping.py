"""The step ratios of ``scripts/benchmarks/core.py``, row by row."""

from __future__ import annotations

from parts import Note, Settings


def run(settings: Settings, note: Note) -> None:
    """Time our AdamW step against the stock two groups', on the benchmark's four models."""
    import core

    quick = ["--quick"] if settings.quick else []
    for row in core.bench_step(core.arguments(["step", "--device", settings.device, *quick])):
        note(row)
