"""``python -m gamma_nlp.fairseq``: what it says without a command that it knows."""

from __future__ import annotations

import sys

import pytest

from gamma_nlp.fairseq.__main__ import main


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ([], "error: which command? (one of preprocess, train, "),
        (["trian"], "error: 'trian' is no command; did you mean 'train'? (one of preprocess, "),
    ],
)
def test_a_missing_or_misspelt_command_is_one_line(
    words: list[str],
    start: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["gamma_nlp.fairseq", *words])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith(start)
    assert error.count("\n") == 1
