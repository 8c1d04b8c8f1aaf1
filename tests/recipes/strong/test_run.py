"""The strong recipe runs, continues after a stop, and judges its grid correctly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.common.grid_runner import Done
from recipes.strong.report import judge, lines, rows
from recipes.strong.run import main


def cell(rule: str, l1: float, accuracy: float, compression: float, seed: int = 0) -> Done:
    result: dict[str, Any] = {"accuracy": accuracy, "compression": compression}
    if rule != "none":
        result |= {"acted": 0.5, "coherence": 0.1}
    return Done(cell={"rule": rule, "l1": l1, "seed": seed}, result=result, seconds=1.0)


GRID = [
    cell("none", 0.0, 97.0, 1.0),
    cell("none", 0.0, 99.0, 1.0, seed=1),
    cell("always", 0.01, 97.5, 4.0),
    cell("always", 0.1, 60.0, 50.0),
    cell("always", 1.0, 10.3, 1000.0),
    cell("always", 10.0, 9.8, 1000.0),
    cell("direction", 0.1, 98.2, 6.0),
    cell("direction", 1.0, 97.2, 8.0),
    cell("delayed", 1.0, 96.0, 30.0),
    cell("magnitude", 10.0, 98.0, 3.0),
]


def test_the_verdict_names_tolerance_rescue_and_what_costs_nothing() -> None:
    table = rows(GRID)
    assert [row.rule for row in table][:2] == ["none", "always"]
    assert (table[0].accuracy, table[0].worst, table[0].seeds) == (98.0, 97.0, 2)
    verdict = judge(table)
    assert (verdict.dense, verdict.tolerance, verdict.fails) == (98.0, 0.1, 1.0)
    assert verdict.rescue is not None and verdict.rescue.rule == "direction"
    assert verdict.rescue.l1 == 1.0  # delayed compresses more and loses two points
    assert verdict.free is not None and verdict.free.compression == 6.0
    assert verdict.best_always is not None and verdict.best_always.l1 == 0.01
    text = "\n".join(lines("grid", table, verdict))
    assert "at chance from l1 = 1, and learns up to 0.1" in text
    assert "direction at l1 = 1, accuracy 97.20, compression 8.0" in text


def test_a_grid_on_which_nothing_fails_says_so() -> None:
    table = rows(GRID[:4])
    verdict = judge(table)
    assert verdict.fails is None and verdict.tolerance is None and verdict.rescue is None
    assert "never fell to chance" in "\n".join(lines("grid", table, verdict))


@pytest.mark.slow
def test_the_smoke_run_writes_its_files_and_continues_from_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAMMA_NLP_DATA", raising=False)
    assert main(["--smoke", "--output", str(tmp_path), "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "no --minilm: fine-tuning under L1 is left out" in printed
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert {"mnist", "cifar10", "hardware", "versions", "cpu_seconds"} <= results.keys()
    for name in ("mnist", "cifar10"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        part = results[name]
        assert len(part["cells"]) == 9 and part["verdict"]["dense"] > 50
        worst = next(r for r in part["rows"] if r["rule"] == "always" and r["l1"] == 1.0)
        assert worst["accuracy"] < 20 and part["verdict"]["fails"] == 1.0
    before = (tmp_path / "mnist" / "cells.jsonl").read_bytes()
    assert main(["--smoke", "--output", str(tmp_path), "--jobs", "1"]) == 0
    assert (tmp_path / "mnist" / "cells.jsonl").read_bytes() == before


def test_a_grid_can_run_alone_with_rare_decisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--smoke", "--only", "mnist", "--every", "3", "--jobs", "1"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["mnist"]["task"]["every"] == 3 and "cifar10" not in results
    assert main(["--every", "0"]) == 2
    assert capsys.readouterr().err == "error: --every must be 1 or more, got 0\n"


def test_missing_data_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GAMMA_NLP_DATA", raising=False)
    assert main(["--output", str(tmp_path / "out")]) == 2
    assert "Give its folder with --data" in capsys.readouterr().err
    monkeypatch.setenv("GAMMA_NLP_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    assert main(["--output", str(tmp_path / "out")]) == 2
    assert str(tmp_path / "mnist") in capsys.readouterr().err  # there, but empty
    assert not (tmp_path / "out").exists()
    words = ["--smoke", "--minilm", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
