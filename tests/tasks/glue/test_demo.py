"""The demonstration on a smaller corpus: tables first, equal arms run once, doses reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue import demo, demo_arms
from tests.support.paths import ROOT

SMALL = ("--examples", "128", "--epochs", "2", "--seeds", "2")


def test_the_demonstration_shows_tables_and_then_every_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "quickstart"
    assert demo.main(["--output", str(folder), *SMALL, "--dose", "0.3"]) == 0
    shown = capsys.readouterr().out
    parts = ["Gemma2ForCausalLM: 105 gains", "decayed by accident: 65", "0.06%", "runs of 4 steps"]
    parts += ["[ 1/10] post-norm", "[10/10] pre-norm", "none = guidelines", "all against none"]
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert "post-norm (BERT): guidelines decays exactly what none does" in shown
    assert (folder / "arms.png").stat().st_size > 10_000
    models = json.loads((folder / "demo.json").read_text())["models"]
    assert [list(model["arms"]) for model in models.values()] == [
        ["none", "all"],
        ["none", "guidelines", "all"],
    ]
    arms = models["pre-norm (ModernBERT)"]["arms"]
    assert [run["seed"] for run in arms["all"]] == [1, 2]
    for category, dose in arms["guidelines"][0]["dose"].items():
        assert dose["dose"] == pytest.approx(0.3 if category == "branch_inner" else 0.0, abs=0.03)
    last = {name: runs[0]["gain_norm"]["shortcut"]["last"] for name, runs in arms.items()}
    assert last["all"] < 0.85 < min(last["none"], last["guidelines"])
    assert not list((folder / "arms").glob("*seed0"))  # the runs that only took the time


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[demo_arms.Demonstration]:
    """Demonstrations that were asked for, without tables or training."""
    asked: list[demo_arms.Demonstration] = []
    monkeypatch.setattr(demo_arms, "compare", lambda settings, record: asked.append(settings))
    monkeypatch.setattr("gamma_nlp.tasks.glue.demo_tables.print_tables", lambda: None)
    return asked


def test_an_earlier_demonstration_is_replaced(
    untrained: list[demo_arms.Demonstration], tmp_path: Path
) -> None:
    (tmp_path / "demo.json").write_text('{"models": {}}')
    (tmp_path / "arms" / "old").mkdir(parents=True)
    assert demo.main(["--output", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_three_seeds_at_a_dose_of_ten_per_cent_unless_told_otherwise(
    untrained: list[demo_arms.Demonstration], tmp_path: Path
) -> None:
    demo.main(["--output", str(tmp_path / "a")])
    demo.main(["--output", str(tmp_path / "b"), "--quick", "--epochs", "3"])
    full, quick = untrained
    assert (full.seeds, full.dose) == (quick.seeds, quick.dose) == (3, 0.1)
    assert quick.examples < full.examples and quick.epochs == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dose", "0"], "--dose 0.0: give a share from 0.01"),
        (["--dose", "1"], "--dose 1"),
        (["--dose", "2"], r"--dose 2.0: give a share from 0.01 to 0.99"),
        (["--dose", "nan"], "--dose nan: give a share"),
        (["--epochs", "nan"], "more than 0 --epochs, a finite number"),
        (["--epochs", "inf"], "more than 0 --epochs, a finite number"),
        (["--examples", "3"], "at least 64 --examples"),
        (["--epochs", "0"], "more than 0 --epochs"),
        (["--examples", "64", "--epochs", "1"], "make fewer than two steps of 64 sentences"),
        (["--seeds", "1"], "--seeds 1: one run shows no spread"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=message):
        demo.main(["--output", str(tmp_path / "new"), *options])
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(GammaError, match="holds something other than an earlier demonstration"):
        demo.main(["--output", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GammaError, MemoryError])
def test_a_demonstration_that_fails_gives_its_folder_back(
    error: type[BaseException],
    untrained: list[demo_arms.Demonstration],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(settings: demo_arms.Demonstration, record: Path) -> None:
        (settings.output / "arms").mkdir()
        raise error

    monkeypatch.setattr(demo_arms, "compare", fail)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "demo.json").write_text('{"models": {}}')
    (tmp_path / "empty").mkdir()
    for name in ("earlier", "empty", "new/deep"):
        with pytest.raises(error):
            demo.main(["--output", str(tmp_path / name)])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo.json", "earlier", "empty"]
    assert (earlier / "demo.json").read_text() == '{"models": {}}'


def test_an_output_that_cannot_be_made_is_named(
    untrained: list[demo_arms.Demonstration], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text")
    for name in ("file/demo", "x" * 300):
        with pytest.raises(GammaError, match=r"cannot use .*; check the path"):
            demo.main(["--output", str(tmp_path / name)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("package", ["transformers", "accelerate", "matplotlib"])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"gamma-nlp demo needs {package}: pip install 'gamma_nlp\[recipes\]'"
    with pytest.raises(GammaError, match=message):
        demo.main(["--output", str(tmp_path / "new")])
    assert not list(tmp_path.iterdir())


def test_its_options_are_declared_without_heavy_imports() -> None:
    code = (
        "import argparse, sys; from gamma_nlp.tasks.glue import demo; "
        "demo.add_arguments(argparse.ArgumentParser()); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
