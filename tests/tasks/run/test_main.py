"""One way to end a recipe: errors in one line, and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import gamma_nlp
from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.run.signals import Terminated


def raising(error: BaseException) -> object:
    def main(argv: Sequence[str]) -> None:
        raise error

    return main


def test_the_exit_code_is_what_main_returns_and_none_is_zero() -> None:
    assert run(lambda argv: None, []) == 0
    assert run(lambda argv: len(argv), ["a"]) == 1


def test_the_words_are_those_of_the_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe", "x.yaml", "--seed"])
    before = signal.getsignal(signal.SIGINT)
    assert run(lambda argv: len(argv)) == 2
    signal.signal(signal.SIGINT, before)  # the run was taken for the last of the process


@pytest.mark.parametrize(
    "work",
    [
        "from gamma_nlp.tasks.run.main import run; sys.exit(run(lambda words: 0))",
        "from gamma_nlp.cli.main import main; sys.exit(main())",
    ],
)
def test_ctrl_c_while_python_ends_is_one_line(work: str) -> None:
    code = f"""
import atexit, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv[1:] = ["--version"]
{work}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (GammaError("no such file"), 2, "error: no such file"),
        (GammaError("two  lines:\n  a\r\n  b\n"), 2, "error: two  lines: a b"),
        (
            ModuleNotFoundError("No module named 'accelerate.x'", name="accelerate.x"),
            2,
            "error: this needs accelerate: pip install 'gamma_nlp[recipes]'",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "out/x"),
            2,
            "error: cannot use out/x: Not a directory; check the path",
        ),
        (
            ModuleNotFoundError("No module named 'zstandard'", name="zstandard"),
            2,
            "error: this needs zstandard: pip install zstandard",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (KeyboardInterrupt("interrupted at step 3"), 130, "error: interrupted at step 3"),
        (Terminated(), 143, "error: terminated"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error), []) == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(("which", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_torch_loads_raises_nothing_within_it(
    which: str, code: int, tmp_path: Path
) -> None:
    # A stand-in for torch, which is interrupted in the middle of its import.
    (tmp_path / "torch.py").write_text(
        f"import os, signal\ntry:\n    os.kill(os.getpid(), signal.{which})\n"
        "except BaseException:\n    print('raised')\n"
    )
    loads = "lambda words: __import__('torch') and None"
    work = f"import sys; from gamma_nlp.tasks.run.main import run; sys.exit(run({loads}))"
    path = os.pathsep.join([str(tmp_path), str(Path(gamma_nlp.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", work], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    said = {130: "error: interrupted\n", 143: "error: terminated\n"}[code]
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_missing_module_of_this_package_is_a_mistake_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError):
        run(raising(ModuleNotFoundError("no", name="gamma_nlp.nothing")), [])


def test_sigterm_ends_a_recipe_like_ctrl_c_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def main(argv: Sequence[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # a launcher passes it on again
            os.kill(os.getpid(), signal.SIGINT)
            cleaned.append(True)

    assert run(main, []) == 143
    assert cleaned and capsys.readouterr().err == "error: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_process_of_several_speaks_when_all_are_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == ""
