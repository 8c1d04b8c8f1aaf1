"""The benchmark of the core runs on tiny sizes, judges by its goals, and compares fairly."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest


def test_quick_run_measures_every_part_and_judges_none(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    code = benchmark.main(["all", "--quick", "--device", "cpu", "--json", str(path)])
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["what"]: row for row in record["rows"]}
    printed = capsys.readouterr().out.splitlines()
    assert code == 0
    assert "torch" in record["environment"] and "threads" in record["environment"]
    assert [line.split("  ")[0] for line in printed[1:]] == list(rows)
    assert {what.split()[0].strip(",") for what in rows} == {"table", "graph", "step", "sst2"}
    assert all(row["passed"] is None and row["figures"]["seconds"] for row in rows.values())
    hooked = [row for what, row in rows.items() if "Gemma" in what]
    assert len(hooked) == 2
    assert all("24 gains by hook" in row["detail"] for row in hooked)


def test_stock_groups_hold_every_parameter_once(benchmark: ModuleType) -> None:
    model = benchmark.build("BertForSequenceClassification", True, ())
    decayed, spared = (group["params"] for group in benchmark.stock_groups(model, 0.1))
    everything = {id(p) for p in model.parameters()}
    assert {id(p) for p in [*decayed, *spared]} == everything
    assert len(decayed) + len(spared) == len(everything)
    assert {p.ndim for p in spared} == {1}


def test_ratio_cancels_a_slower_copy(benchmark: ModuleType) -> None:
    import numpy as np

    # Stock and ours cost the same, but whoever has the second copy takes twice as long.
    times = np.array([[[1.0, 2.0]] * 3, [[2.0, 1.0]] * 3])
    assert benchmark.ratio(times) == pytest.approx(1.0)


def test_missing_data_is_an_error_without_a_traceback(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["sst2", "--quick", "--device", "cpu", "--data", str(tmp_path)]) == 2
    assert "train.tsv" in capsys.readouterr().err


def test_missed_goal_is_the_exit_code(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = benchmark.Row("table", "2 s", "< 1 s", False, "", {"seconds": [2.0]})
    monkeypatch.setitem(benchmark.BENCHES, "table", lambda options: iter([row]))
    path = tmp_path / "times.json"
    assert benchmark.main(["table", "--json", str(path)]) == 1
    assert json.loads(path.read_text(encoding="utf-8"))["rows"][0]["passed"] is False


def test_training_is_judged_by_a_plain_bool(benchmark: ModuleType) -> None:
    options = benchmark.arguments(["sst2", "--quick", "--device", "cpu"])
    (row,) = benchmark.bench_sst2(options)  # numpy's bool is neither JSON nor False
    assert type(row.passed) is bool
