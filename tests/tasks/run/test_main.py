"""One way to end a recipe: errors in one line, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.main import run


def raising(error: BaseException) -> object:
    def main(argv: Sequence[str]) -> None:
        raise error

    return main


def test_the_exit_code_is_what_main_returns_and_none_is_zero() -> None:
    assert run(lambda argv: None, []) == 0
    assert run(lambda argv: len(argv), ["a"]) == 1


def test_the_words_are_those_of_the_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe", "x.yaml", "--seed"])
    assert run(lambda argv: len(argv)) == 2


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (GammaError("no such file"), 2, "error: no such file"),
        (
            ModuleNotFoundError("No module named 'accelerate.x'", name="accelerate.x"),
            2,
            "error: this needs accelerate: pip install 'gamma_nlp[recipes]'",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error), []) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_missing_module_of_this_package_is_a_mistake_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError):
        run(raising(ModuleNotFoundError("no", name="gamma_nlp.nothing")), [])
