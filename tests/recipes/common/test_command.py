"""The experiments start by module and by file, and end with 0, or with an error and 2."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from recipes.common.command import command_of, make_parser, run_experiment
from tests.support.paths import RECIPES, ROOT

EXPERIMENTS = ["effective_lr", "strong", "batch_norm"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_that_help_shows_is_the_one_that_works(name: str, capsys: Any) -> None:
    module = importlib.import_module(f"recipes.{name}.run")
    with pytest.raises(SystemExit, match="0"):
        module.main(["--help"])
    shown = capsys.readouterr().out
    command = command_of(module.__file__)
    assert command == f"python -m {module.__name__}"
    assert shown.count(command) == 2  # the usage, and the example of the docstring
    assert all(option in shown for option in ("--data", "--output", "--jobs", "--smoke"))


def test_an_experiment_starts_by_its_file_too(tmp_path: Path) -> None:
    file = RECIPES / "batch_norm" / "run.py"
    done = subprocess.run(
        [sys.executable, str(file), "--seeds", "0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (2, "error: --seeds must be 1 or more, got 0\n")


def test_only_what_the_user_can_put_right_is_printed(capsys: Any) -> None:
    parser = make_parser(__file__, "What it does.", output="runs/here")

    def refuse(options: Any) -> None:
        raise GammaError(f"not into {options.output}")

    assert run_experiment(refuse, parser, ["--output", "there"]) == 2
    assert capsys.readouterr().err == "error: not into there\n"
    assert run_experiment(lambda options: None, parser, []) == 0
    with pytest.raises(ZeroDivisionError):
        run_experiment(lambda options: 1 / 0, parser, [])  # type: ignore[arg-type, return-value]


def test_a_mistyped_option_is_an_error_that_says_what_to_type(capsys: Any) -> None:
    parser = make_parser(str(RECIPES / "strong" / "run.py"), None, output="out")
    assert run_experiment(lambda options: None, parser, ["--smok", "--bad"]) == 2
    assert capsys.readouterr().err == (
        "error: unrecognized arguments: --bad; for help type: python -m recipes.strong.run --help\n"
    )


def test_an_experiment_that_is_interrupted_says_so(capsys: Any) -> None:
    def stop(options: Any) -> None:
        raise KeyboardInterrupt

    assert run_experiment(stop, make_parser(__file__, None, output="out"), []) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_without_matplotlib_nothing_is_computed(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    parser, started = make_parser(__file__, None, output="out"), []
    assert run_experiment(started.append, parser, []) == 2
    assert "pip install 'gamma_nlp[plot]'" in capsys.readouterr().err and not started
