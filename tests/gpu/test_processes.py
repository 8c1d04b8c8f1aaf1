"""A part that crashes, hangs or lacks a package costs itself alone; its rows are kept."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
PART = """
import os, signal, subprocess, time
from parts import Skip
from table import Row
from gamma_nlp import GammaError

def run(settings, note, how):
    note(Row("first", "1 s", "< 2 s", True, "kept", {"seconds": 1}))
    print("said by", how)
    if how == "hang":
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        with open(settings.work + "/child", "w") as file:
            file.write(str(child.pid))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
    if how == "orphan":
        child = subprocess.Popen("sleep 300 & echo $! > " + settings.work + "/child", shell=True,
                                 start_new_session=True)
        child.wait()
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "skip":
        raise Skip("this is not installed")
    if how == "refuse":
        raise GammaError("give another folder")
    if how == "fail":
        raise ValueError("two\\nlines")
    note(Row("second", "1", "", None, "", {}))
"""


@pytest.fixture
def try_part(load: Load, work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a part that does what it is told."""
    (work.parent / "told.py").write_text(PART, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(work.parent), *sys.path])
    parts, processes = load("parts"), load("processes")

    def run(how: str, limit: float = 60.0, **changes: Any) -> Any:
        chosen = {"device": "cpu", "quick": False, "data": None, "work": str(work), **changes}
        settings = parts.Settings(**chosen)
        part = parts.Part(name=f"told to {how}", module="told", words=(how,))
        return processes.run_part(part, settings, limit, work.parent / "log.txt")

    return run


def gone(pid: int) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("how", "state", "why"),
    [
        ("work", "done", ""),
        ("skip", "skipped", "this is not installed"),
        ("refuse", "failed", "give another folder"),
        ("fail", "failed", "ValueError: two lines"),
        ("crash", "failed", "the process ended with SIGKILL"),
        ("exit", "failed", "the process ended with exit code 3"),
    ],
)
def test_a_part_says_how_it_ended_and_its_rows_are_kept(
    try_part: Callable[..., Any], work: Path, how: str, state: str, why: str
) -> None:
    ended = try_part(how)
    assert (ended.state, ended.why) == (state, why)
    names = [row["what"] for row in ended.rows]
    assert names == (["first", "second"] if how == "work" else ["first"])
    log = (work.parent / "log.txt").read_text(encoding="utf-8")
    assert f"== told to {how}" in log
    assert ("Traceback" in log) == (how == "fail")


def test_a_part_is_killed_at_its_limit_with_all_that_it_started(
    try_part: Callable[..., Any], work: Path
) -> None:
    start = time.monotonic()
    ended = try_part("hang", 1.5)
    assert time.monotonic() - start < 20
    assert (ended.state, ended.why) == ("stopped", "at its limit of 2 s")
    assert [row["what"] for row in ended.rows] == ["first"]
    assert gone(int((work / "child").read_text("utf-8")))


def test_what_a_part_leaves_behind_is_ended(try_part: Callable[..., Any], work: Path) -> None:
    assert try_part("orphan").state == "done"
    assert gone(int((work / "child").read_text("utf-8")))


def test_tiny_sizes_judge_nothing(try_part: Callable[..., Any]) -> None:
    assert [row["passed"] for row in try_part("work").rows] == [True, None]
    assert [row["passed"] for row in try_part("work", quick=True).rows] == [None, None]


def test_a_fresh_process_is_asked_in_words(
    load: Load, try_part: Callable[..., Any], work: Path
) -> None:
    parts = load("parts")
    settings = parts.Settings(device="cuda", quick=True, data=None, work=str(work))
    part = parts.Part(name="told", module="told", words=("work",))
    option, text = parts.fresh_words(part, settings, work / "own.jsonl")
    assert option == "--part"
    assert parts.perform_words(text) == 0
    lines = [json.loads(line) for line in (work / "own.jsonl").read_text("utf-8").splitlines()]
    assert [line["row"]["what"] for line in lines[:2]] == ["first", "second"]
    assert lines[2] == {"state": "done", "why": ""}


def test_each_test_of_a_file_is_a_row(load: Load, work: Path) -> None:
    file = work / "test_told.py"
    file.write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.cuda\n"
        "def test_fine(): pass\n"
        "def test_wrong(): assert 1 == 2, 'numbers differ'\n"
        "def test_absent(): pytest.skip('only a GPU has this')\n",
        encoding="utf-8",
    )
    parts, processes = load("parts"), load("processes")
    settings = parts.Settings(device="cpu", quick=True, data=None, work=str(work))
    part = parts.Part(name="told", module="correctness", words=(str(file),))
    ended = processes.run_part(part, settings, 60.0, work / "log.txt")
    assert ended.state == "done", (work / "log.txt").read_text("utf-8")
    found = [(row["what"].rpartition("::")[2], row["passed"]) for row in ended.rows]
    assert found == [("test_fine", True), ("test_wrong", False), ("test_absent", None)]
    assert "numbers differ" in ended.rows[1]["detail"]
    assert ended.rows[2]["detail"] == "only a GPU has this"
