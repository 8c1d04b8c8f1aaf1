"""The benchmark of few shapes runs on tiny sizes, and tells what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gamma_nlp.hf.batches.by_length import Encoded
from gamma_nlp.tasks.glue.opinions import write_sst2


def test_quick_run_measures_both_parts_and_judges_none(
    benchmark: ModuleType, prepared: Path, tmp_path: Path
) -> None:
    glue = write_sst2(tmp_path / "SST-2", train=72, dev=40).parent
    path = tmp_path / "times.json"
    given = ["--data", str(prepared), "--glue", str(glue), "--device", "cpu", "--quick"]
    given += ["--max-tokens", "48", "--sentences", "40"]
    assert benchmark.main(["all", *given, "--json", str(path)]) == 0
    rows = {row["what"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [
        "padding prepared, 48",
        "padding sst2, 32 sentences",
        "speed prepared, 48, quick",
        "speed sst2, MiniLM's size",
    ]
    assert all(row["passed"] is None for row in rows.values())
    few = rows["padding prepared, 48"]["figures"]["few"]
    assert len(few["shapes"]) <= 32
    assert rows["padding prepared, 48"]["measured"] == f"{few['padding'][2]:.1%}"
    for what in list(rows)[2:]:
        (few_seconds, any_seconds), *others = rows[what]["figures"]["seconds"]
        assert not others and rows[what]["measured"] == f"{any_seconds / few_seconds:.3f} x"


def test_positions_are_those_of_the_padded_batches(benchmark: ModuleType) -> None:
    sizes = np.random.default_rng(0).integers(2, 9, 40)
    encoded = Encoded({"input_ids": [[5] * size for size in sizes]}, [0] * 40)
    assert benchmark.filled(encoded, [(32, 8)]) == 64 * 8
    ordered = sorted(sizes)[::-1]
    assert benchmark.filled(encoded, None) in (
        32 * ordered[0] + 8 * ordered[32],
        32 * ordered[0] + 8 * ordered[0],
    )


def test_nothing_to_measure_is_an_error(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception, match=r"give --data FOLDER\.\.\., or --glue FOLDER"):
        benchmark.arguments(["padding"])
