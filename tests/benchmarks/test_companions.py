"""The benchmark of the companions runs on tiny sizes and judges by the share of a step."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def test_quick_run_measures_every_form_of_adamw_and_judges_none(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    assert benchmark.main(["unit_norm", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["what"] for row in rows] == [
        f"UnitNorm, {what}, {form}"
        for what in ("q and k, 8, every 1", "encoder, 24, every 1", "encoder, 24, every 16")
        for form in ("default", "foreach", "fused")
    ]
    assert all(row["passed"] is None for row in rows)
    assert all(t > 0 for row in rows for pair in row["figures"]["seconds"] for t in pair)


def test_quick_run_measures_strong_regularisation_at_each_step_and_seldom(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "times.json"
    assert benchmark.main(["strong", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["what"].rpartition("24, ")[2] for row in rows] == [
        *(f"every 1, {form}" for form in ("default", "foreach", "fused")),
        *("every 20, default", "every 20, foreach", "every 100, fused"),
    ]
    assert all(t > 0 for row in rows for pair in row["figures"]["seconds"] for t in pair)


def test_the_figure_is_the_median_share_of_the_step(benchmark: ModuleType) -> None:
    times = np.array([[1.0, 0.04], [2.0, 0.06], [1.0, 0.9]])
    row = benchmark.row("what", 0.05, times, whole=9.0)
    assert (row.measured, row.passed) == ("4.0%", True)
    assert "60.0 ms to a step's 1000.0 ms; 0.60% with" in row.detail
    assert benchmark.row("what", 0.039, times, whole=9.0).passed is False
    assert benchmark.row("what", None, times, whole=9.0).passed is None
