"""One file of the tests marked ``cuda``: a row for each test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from parts import Note, Settings, need
from table import Row

ROOT = Path(__file__).resolve().parents[2]


def run(settings: Settings, note: Note, file: str) -> None:
    """Run the tests of a file on the device; warnings are shown and fail nothing."""
    need("pytest")
    import pytest

    os.environ["GAMMA_NLP_TEST_DEVICE"] = settings.device
    words = [file, "-m", "cuda", "-q", "-p", "no:cacheprovider", "-W", "default"]
    words += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    code = pytest.main(words, plugins=[Recorder(note)])
    if code > pytest.ExitCode.TESTS_FAILED and code != pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"pytest ended with {pytest.ExitCode(code).name}; see log.txt")


class Recorder:
    """A plugin of pytest that notes how each test ended, as soon as it has."""

    def __init__(self, note: Note) -> None:
        self.note = note

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._add(report)

    def pytest_collectreport(self, report: Any) -> None:
        if report.outcome != "passed":  # a file that is skipped or broken as a whole
            self._add(report)

    def _add(self, report: Any) -> None:
        why = ""
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            why = str(report.longrepr[2]).removeprefix("Skipped: ")
        elif report.outcome == "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(report.longrepr) if crash is None else crash.message
        passed = {"passed": True, "failed": False}.get(report.outcome)
        figures = {"test": True, "seconds": getattr(report, "duration", 0.0)}
        name = report.nodeid.rpartition("tests/")[2]
        self.note(Row(name, report.outcome, "", passed, " ".join(why.split())[:300], figures))
