"""The table says what passed, what did not and why; the JSON files hold everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]


def row(what: str, passed: bool | None, detail: str = "", **figures: Any) -> dict[str, Any]:
    return {"what": what, "measured": "1 s", "goal": "< 2 s", "passed": passed,
            "detail": detail, "figures": figures}  # fmt: skip


@pytest.fixture
def ended(load: Load) -> Callable[..., Any]:
    def end(*rows: dict[str, Any], state: str = "done", why: str = "") -> Any:
        return load("processes").Ended(rows=list(rows), state=state, why=why, seconds=2.0)

    return end


@pytest.fixture
def report(load: Load, tmp_path: Path) -> Any:
    parts = load("parts")
    part = [parts.Part(name=f"part {number}", module="none") for number in range(2)]
    stages = (
        parts.Stage(name="correctness", about="tests", seconds=1, parts=tuple(part), tests=True),
        parts.Stage(name="speed", about="a | b", seconds=1, parts=tuple(part),
                    compare=lambda rows: [row("ratio", True)] if len(rows) > 1 else []),
        parts.Stage(name="late", about="later", seconds=1, parts=tuple(part[:1])),
    )  # fmt: skip
    return load("report").Report(tmp_path, {"device": "CPU", "commit": "abc"}, stages)


def table(report: Any) -> list[str]:
    text: str = (report.folder / "README.md").read_text(encoding="utf-8")
    return text.splitlines()


def test_the_table_is_there_from_the_start_and_grows(
    report: Any, ended: Callable[..., Any]
) -> None:
    _, speed, late = report.stages
    assert "| speed | a \\| b | not run yet | 0 |" in table(report)
    report.add(speed, speed.parts[0], ended(row("one", False, "two\nlines")))
    assert "| speed | a \\| b | 1 done, 1 to come | 2 |" in table(report)
    assert "| one | 1 s | < 2 s | **FAIL** | two lines |" in table(report)
    report.add(speed, speed.parts[1], ended(row("two", None), state="stopped", why="at 3 s"))
    assert "| ratio | 1 s | < 2 s | pass |  |" in table(report)
    assert "| part 1 | stopped |  | - | at 3 s |" in table(report)
    report.leave_out(late, "not run: no time was left")
    assert "| late | later | not run: no time was left | 0 |" in table(report)
    content = json.loads((report.folder / "speed.json").read_text(encoding="utf-8"))
    assert content["commit"] == "abc" and content["state"] == "1 done, 1 stopped"
    assert [part["rows"][0]["what"] for part in content["parts"]] == ["one", "two"]
    assert [one["what"] for one in content["compared"]] == ["ratio"]
    assert not [path for path in report.folder.iterdir() if path.name.startswith(".")]


def test_tests_are_counted_and_those_that_failed_are_named(
    report: Any, ended: Callable[..., Any]
) -> None:
    stage = report.stages[0]
    rows = (row("a", True), row("b", True), row("c", False, "1 is 2"), row("d", None, "no GPU"))
    report.add(stage, stage.parts[0], ended(*rows))
    lines = table(report)
    assert "| part 0 | 2 | 1 | 1 | done | 2 |" in lines
    assert "- **FAIL** `c`: 1 is 2" in lines and "- 1 skipped: no GPU" in lines


@pytest.mark.parametrize(
    ("state", "passed", "failed"),
    [
        ("done", True, False),
        ("done", None, False),
        ("skipped", True, False),
        ("done", False, True),
        ("failed", True, True),
        ("stopped", True, True),
    ],
)
def test_a_test_that_failed_or_did_not_end_fails_the_whole(
    report: Any, ended: Callable[..., Any], state: str, passed: bool | None, failed: bool
) -> None:
    stage = report.stages[0]
    report.add(stage, stage.parts[0], ended(row("a", passed), state=state))
    assert report.failed("correctness") is failed
    assert report.failed("speed") is False  # did not run


def test_a_stage_none_of_whose_parts_can_run_says_why(
    report: Any, ended: Callable[..., Any]
) -> None:
    stage = report.stages[1]
    for part in stage.parts:
        report.add(stage, part, ended(state="skipped", why="x is not installed"))
    assert "| speed | a \\| b | skipped: x is not installed | 4 |" in table(report)


def side(name: str, per_second: float, *, steady: bool = True, quick: bool = False) -> Any:
    return row(name, None, side=name, per_second=per_second, steady=steady, quick=quick)


def test_speeds_of_parts_are_compared_and_judged(load: Load) -> None:
    compare = load("ratios").sst2
    ours, stock = side("ours, graphs", 300.0), side("Trainer, padding to 128", 100.0)
    assert compare([ours]) == []
    (found,) = compare([ours, stock])
    assert found["measured"] == "3.00 x" and found["goal"] == ">= 2 x" and found["passed"] is True
    (slow,) = compare([side("ours, graphs", 150.0), stock])
    assert slow["passed"] is False
    (rough,) = compare([side("ours, graphs", 300.0, steady=False), stock])
    assert rough["passed"] is None and rough["detail"] == "not steady: ours, graphs"
    (tiny,) = compare([side("ours, graphs", 150.0, quick=True), stock])
    assert tiny["passed"] is None
