"""``gamma-nlp translate`` on a small run, and what it should print."""

from __future__ import annotations

import io

import pytest

from gamma_nlp.cli import main

Capture = pytest.CaptureFixture[str]
LINES = ["Ein Hund 3.", "", "  \t", "Der Hund läuft 4 1 0.", "Ein Dog 5 5 5."]


class Input(io.StringIO):
    """Standard input with these bytes."""

    def __init__(self, content: bytes, *, terminal: bool = False) -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def translate(*words: object) -> int:
    return main.main(["translate", *map(str, words)])


def error(capsys: Capture, *words: object) -> str:
    """The one line on standard error of a command that must fail."""
    assert translate(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err
