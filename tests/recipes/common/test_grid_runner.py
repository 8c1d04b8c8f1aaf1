"""Cells of a grid are computed once, kept as they come, and never mixed with others."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp import GammaError
from recipes.common.grid_runner import FILE, run_cells

CODE = """
import os, torch
def compute(cell, settings, log):
    with open(log, "a") as file:
        print(cell["x"], file=file)
    if cell["x"] % 13 == 0:
        raise ValueError("an unlucky number")
    if cell["x"] == 14:
        os._exit(1)
    return {"y": cell["x"] * settings["factor"], "threads": torch.get_num_threads()}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "cell_function.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cell_function", raising=False)
    function = importlib.import_module("cell_function").compute
    log = tmp_path / "log"
    log.touch()
    lines: list[str] = []

    def call(*numbers: int, factor: int = 2) -> list[int]:
        done = run_cells(
            function,
            [{"x": x} for x in numbers],
            tmp_path / "out",
            settings={"factor": factor},
            arguments=[str(log)],
            jobs=1,
            report=lines.append,
        )
        assert all(one.result["threads"] == 1 for one in done)
        return [one.result["y"] for one in done]

    call.lines, call.file = lines, tmp_path / "out" / FILE  # type: ignore[attr-defined]
    call.computed = lambda: [int(x) for x in log.read_text().split()]  # type: ignore[attr-defined]
    return call


def test_a_second_run_computes_only_what_is_missing(run: Any) -> None:
    assert run(3, 1) == [6, 2]
    assert len(run.lines) == 2 and run.lines[1].startswith('2/2  about 0.0 min left  {"x": 1}')
    assert run(1, 2, 3) == [2, 4, 6]
    assert run.computed() == [3, 1, 2]


def test_a_line_that_was_cut_off_is_computed_again(run: Any) -> None:
    run(1, 2)
    run.file.write_bytes(run.file.read_bytes()[:-9])
    assert run(1, 2, 3) == [2, 4, 6]
    assert run.computed() == [1, 2, 2, 3]
    cells = [json.loads(line) for line in run.file.read_text().splitlines()]
    assert [one["cell"]["x"] for one in cells[1:]] == [1, 2, 3]


def test_other_settings_are_refused_and_what_is_there_stays(run: Any) -> None:
    run(1)
    before = run.file.read_bytes()
    with pytest.raises(GammaError, match=r"factor was 2 and is 3.*another output folder"):
        run(1, factor=3)
    assert run.file.read_bytes() == before
    run.file.write_text("something else\n")
    with pytest.raises(GammaError, match="is not a file of cells"):
        run(1)


def test_cells_that_fail_are_named_and_the_others_kept(run: Any) -> None:
    with pytest.raises(GammaError, match="2 of 4 cells failed") as raised:
        run(1, 13, 14, 2)
    assert '{"x": 13}: ValueError: an unlucky number' in str(raised.value)
    assert '{"x": 14}: its process died' in str(raised.value)
    assert run(1, 2) == [2, 4]
    assert run.computed() == [1, 13, 14, 2]


def test_cells_that_fail_alike_are_told_of_once(run: Any) -> None:
    with pytest.raises(GammaError, match="3 of 3 cells failed") as raised:
        run(13, 26, 39)
    assert str(raised.value).count("an unlucky number") == 1
    assert "(and 2 more cells like it)" in str(raised.value)


def test_a_folder_that_cannot_be_made_is_named(run: Any) -> None:
    run.file.parent.write_text("a file where the folder would be")
    with pytest.raises(GammaError, match=r"out.*cannot be written .*another output folder"):
        run(1)


def test_cells_that_are_alike_are_refused(run: Any) -> None:
    with pytest.raises(GammaError, match=r'\{"x": 1\} is there twice'):
        run(1, 2, 1)


def test_a_function_that_no_worker_could_import_is_refused(tmp_path: Path) -> None:
    def inner(cell: Any, settings: Any) -> None:
        raise AssertionError

    with pytest.raises(GammaError, match=r"cannot import .*inner; define it at the top level"):
        run_cells(inner, [{"x": 1}], tmp_path / "out", settings={})
    assert not (tmp_path / "out").exists()
