"""The demonstration: tables first, then two studies whose equal arms run once, then reports."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.config import read_study
from gamma_nlp.study.quickstart import demo
from gamma_nlp.study.study import run_study
from tests.support.paths import ROOT

SMALL = ("--examples", "128", "--epochs", "2", "--seeds", "2", "--jobs", "2")


def options(*words: str) -> Namespace:
    parser = ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def main(*words: str) -> int:
    return demo.run(options(*words))


def test_the_demonstration_shows_tables_then_runs_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODELS", {"postnorm": "post-norm (BERT)"})  # half of it is enough
    words = ("--output", str(tmp_path / "quickstart"), *SMALL, "--dose", "0.3")
    assert main(*words) == 0
    shown = capsys.readouterr().out
    parts = ["Gemma2ForCausalLM: 105 gains", "decayed by accident: 65", "0.06%"]
    parts += ["post-norm (BERT)", "guidelines@30%", "4 of 4 runs are finished"]
    parts += ["Differences from the baseline"]
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    page = tmp_path / "quickstart" / "postnorm" / "report" / "report.html"
    model = tmp_path / "quickstart" / "postnorm" / "model.svg"
    assert "attention" in model.read_text() and "shortcut" in page.read_text()
    assert main(*words) == 0  # goes on where it was
    assert "all 4 runs are finished" in capsys.readouterr().out


@pytest.mark.slow
def test_arms_reach_their_dose_where_the_model_has_branches(tmp_path: Path) -> None:
    words = (*SMALL, "--dose", "0.3")
    study = read_study(demo.config("prenorm"), tmp_path, demo.changes(options(*words)))
    assert run_study(study, jobs=2) == 0
    found = {
        (run["policy"]["name"], run["seed"]): run
        for file in tmp_path.glob("runs/*/results.json")
        for run in [json.loads(file.read_text())]
    }
    assert sorted(found) == [(name, s) for name in ("all", "guidelines", "none") for s in (1, 2)]
    for category, dose in found["guidelines", 1]["dose"].items():
        assert dose["dose"] == pytest.approx(0.3 if category == "branch_inner" else 0.0, abs=0.03)
    last = {name: found[name, 1]["gain_norm"]["shortcut"]["last"] for name, _ in found}
    assert last["all"] < 0.85 < min(last["none"], last["guidelines"])


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Studies that were asked for, without tables, training or reports."""
    asked: list[Any] = []
    monkeypatch.setattr(
        "gamma_nlp.study.study.run_study", lambda study, **more: asked.append(study) or 0
    )
    monkeypatch.setattr("gamma_nlp.study.quickstart.tables.print_tables", lambda: None)
    monkeypatch.setattr(demo, "_report", lambda folder: None)
    return asked


def test_three_seeds_at_a_dose_of_ten_per_cent_unless_told_otherwise(
    untrained: list[Any], tmp_path: Path
) -> None:
    main("--output", str(tmp_path / "a"))
    main("--output", str(tmp_path / "b"), "--quick", "--epochs", "3")
    full, _, quick, _ = untrained
    assert full.seeds == quick.seeds == (1, 2, 3)
    assert full.doses == quick.doses == (0.1,)
    assert full.settings == {"max_train_examples": 4000, "num_train_epochs": 4.0}
    assert quick.settings == {"max_train_examples": 512, "num_train_epochs": 3.0}
    assert [study.output.name for study in untrained[:2]] == ["postnorm", "prenorm"]


def test_its_studies_are_as_their_files_say_where_no_option_changes_them() -> None:
    for name in demo.MODELS:
        study = read_study(demo.config(name))
        assert [arm.name for arm in study.arms] == ["none", "guidelines", "all"]
        assert study.seeds == (1, 2, 3, 4, 5) and study.doses == (0.1,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dose", "0"], "--dose 0.0: give a share from 0.01"),
        (["--dose", "1"], "--dose 1"),
        (["--dose", "2"], r"--dose 2.0: give a share from 0.01 to 0.99"),
        (["--dose", "nan"], "--dose nan: give a share"),
        (["--epochs", "nan"], "more than 0 --epochs, a finite number"),
        (["--epochs", "inf"], "more than 0 --epochs, a finite number"),
        (["--examples", "3"], "at least 64 --examples"),
        (["--examples", "5000"], "at most 4000, not 5000"),
        (["--epochs", "0"], "more than 0 --epochs"),
        (["--examples", "64", "--epochs", "1"], "make fewer than two steps of 64 sentences"),
        (["--seeds", "1"], "--seeds 1: one run shows no spread"),
        (["--jobs", "0"], "--jobs must be at least 1, not 0"),
    ],
)
def test_bad_options_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=message):
        main("--output", str(tmp_path / "new"), *words)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, untrained: list[Any]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(GammaError, match="holds something other than an earlier demonstration"):
        main("--output", str(tmp_path))
    for name in ("thesis.txt", "thesis.txt/demo", "x" * 300):
        with pytest.raises(GammaError, match=r"cannot use .*; check the path"):
            main("--output", str(tmp_path / name))
    assert not untrained
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_study_that_fails_ends_the_demonstration(
    untrained: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamma_nlp.study.study.run_study", lambda study, **more: 1)
    assert main("--output", str(tmp_path / "new")) == 1


@pytest.mark.parametrize("package", ["transformers", "accelerate", "matplotlib", "scipy"])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"gamma-nlp demo needs {package}: pip install 'gamma_nlp\[study\]'"
    with pytest.raises(GammaError, match=message):
        main("--output", str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


def test_its_options_are_declared_without_heavy_imports() -> None:
    code = (
        "import argparse, sys; from gamma_nlp.study.quickstart import demo; "
        "demo.add_arguments(argparse.ArgumentParser()); print('transformers' in sys.modules, "
        "'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
