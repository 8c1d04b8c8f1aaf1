"""Simulated studies: intervals cover the truth, null studies find nothing, N more seeds decide."""

from __future__ import annotations

import gc
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def figures(benchmark: ModuleType, path: Path, *words: str) -> dict[str, dict[str, Any]]:
    assert benchmark.main([*words, "--json", str(path)]) in (0, 1)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {row["what"]: row for row in rows}


@pytest.fixture(autouse=True)
def _little_garbage() -> Iterator[None]:
    gc.freeze()  # as the script does
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("kind", "studies"), [("accuracy", 150), ("bleu", 30)])
def test_intervals_cover_and_null_studies_find_nothing(
    benchmark: ModuleType, tmp_path: Path, kind: str, studies: int
) -> None:
    rows = figures(benchmark, tmp_path / "rows.json", kind, "--studies", str(studies))
    whole = rows[f"{kind}: all"]["figures"]
    # A band for so few: three standard errors and more, as the arms of a study hang together.
    assert whole["intervals"] > studies
    assert 0.90 <= whole["covered"] <= 0.99
    assert rows[f"{kind}: false verdicts"]["figures"]["false"] <= 0.12


def test_a_quick_run_judges_nothing(benchmark: ModuleType, tmp_path: Path) -> None:
    rows = figures(benchmark, tmp_path / "rows.json", "seeds", "--quick")
    assert rows and all(row["passed"] is None for row in rows.values())


def test_the_truth_of_a_simulated_study_is_that_of_very_many_items(benchmark: ModuleType) -> None:
    simulated = importlib.import_module("simulated_studies")
    for kind in ("accuracy", "bleu"):
        design = simulated.Design(
            seeds=40,
            items=3000,
            arms=2,
            level=0.8 if kind == "accuracy" else 0.3,
            hard=0.8,
            item=0.3,
            common=0.1,
            own=(0.1, 0.3),
            shared=0.5,
            effects=(0.0, 0.2),
        )
        rng = np.random.default_rng(0)
        found, true = [], []
        for _ in range(4):
            (pair,), (truth,) = simulated.draw_study(rng, kind, design)
            found.append(pair.differences.mean())
            true.append(truth)
        assert true[0] > 1
        assert np.mean(found) == pytest.approx(true[0], abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["accuracy", "bleu", "seeds"])
def test_two_thousand_studies_reach_the_goals(benchmark: ModuleType, part: str) -> None:
    assert benchmark.main([part]) == 0
