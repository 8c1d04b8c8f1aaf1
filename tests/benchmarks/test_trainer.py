"""The benchmark of the Trainer runs on tiny sizes and gives both trainers the same work."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gamma_nlp import make_optimizer


def test_quick_run_measures_every_model_and_judges_none(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "times.json"
    assert benchmark.main(["speed", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["what"] for row in rows] == [f"speed, {name}" for name in benchmark.MODELS]
    for row in rows:
        assert row["passed"] is None
        stock, ours = row["figures"]["stock"], row["figures"]["ours"]
        assert [len(steps) for steps in (*stock, *ours)] == [2] * 4  # two rounds of 4 steps
        assert all(seconds > 0 for steps in (*stock, *ours) for seconds in steps)


def test_a_process_prints_its_peak_in_bytes(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["memory", "--quick", "--one", "ours", "GPT-2, 6 x 256"]) == 0
    assert int(capsys.readouterr().out.split()[-1]) > 100 * 2**20  # torch alone takes more


def test_gains_that_only_the_hook_decays_take_part(benchmark: ModuleType) -> None:
    options = argparse.Namespace(quick=True)
    model = benchmark.new_model("Gemma 3, 6 x 256", options)
    optimizer = make_optimizer(torch.optim.AdamW, model, policy="all", weight_decay=0.1, lr=1e-4)
    assert any("gamma_part" in group for group in optimizer.param_groups)
