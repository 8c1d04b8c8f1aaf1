"""``gamma-nlp study``: what is printed, what is written, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gamma_nlp.cli.main import main
from tests.support.fake_studies import config, events
from tests.support.paths import ROOT


def test_a_dry_run_prints_the_design_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", str(config(tmp_path)), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "2 arms x 3 seeds: 6 runs" in told.out
    assert "the smallest difference that matters is 0.5 points" in told.out
    assert "how long is known after the first run" in told.out
    assert "note: the exact sign-flip test needs 6 seeds" in told.err
    assert not (tmp_path / "out").exists() and not events(tmp_path)


def test_a_study_ends_with_its_folder_and_what_to_type_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(config(tmp_path))
    assert main(["study", file, "--output", str(tmp_path / "other"), "--jobs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("[") for line in lines) == 6
    assert lines[-2].startswith("6 of 6 runs are finished after")
    assert lines[-1] == f"gamma-nlp report {tmp_path / 'other'}"
    assert main(["study", file, "--output", str(tmp_path / "other"), "--dry-run"]) == 0
    assert "all 6 runs are finished" in capsys.readouterr().out


def test_the_time_left_is_told_from_runs_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["study", str(config(tmp_path))])
    capsys.readouterr()
    main(["study", str(config(tmp_path, seeds=5)), "--dry-run"])
    assert "6 runs finished, 4 to run" in (told := capsys.readouterr().out)
    assert "about 1 s" in told


def test_failed_runs_are_listed_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"none": {}, "all": {"set": {"how": "fails"}}}
    assert main(["study", str(config(tmp_path, arms=arms))]) == 1
    told = capsys.readouterr().out
    assert told.count("\nfailed: all seed") == 3
    assert "3 of 6 runs are finished" in told
    assert "run.log; the same command tries again" in told


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["no.yaml"], "cannot read no.yaml"),
        (["study.yaml", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["study.yaml", "--output", "a{seed}"], "--output: 'a{seed}' has braces"),
        (["study.yaml", "--dryrun"], "did you mean '--dry-run'"),
        ([], "CONFIG"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    problem: str,
) -> None:
    config(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["study", *words]) == 2
    told = capsys.readouterr().err
    assert problem in told
    assert told.startswith("error: ") and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_study_of_commands_needs_no_torch(tmp_path: Path) -> None:
    config(tmp_path, seeds=2, output="out")
    code = (
        "import sys; sys.modules['torch'] = None; from gamma_nlp.cli.main import main; "
        "sys.exit(main(['study', 'study.yaml']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs are finished" in done.stdout


def test_a_setting_on_the_command_line_wins_and_the_others_stay(tmp_path: Path) -> None:
    file = config(tmp_path, seeds=2, arms={"none": {}, "all": {"set": {"how": "badly"}}})
    words = ["--output", str(tmp_path / "out"), "--set", "seconds=0.03"]
    assert main(["study", str(file), *words]) == 0
    record = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [cell["set"]["seconds"] for cell in record["cells"]] == [0.03, 0.03]
    assert [cell["set"]["how"] for cell in record["cells"]] == ["well", "badly"]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("seconds", "--set seconds: give KEY=VALUE, such as num_train_epochs=2"),
        ("=3", "--set =3: give KEY=VALUE"),
        ("seconds=[1", "--set seconds=[1: not valid YAML"),
        ("pace=3", "error: --set pace: the command has no {pace}, so this would have no effect"),
        ("seconds=1\nhow: x", "give one KEY=VALUE for each --set"),
        ("seconds=", "--set seconds: is empty; give a value, or '' for none"),
        ("seconds=#1", "--set seconds: is empty"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, problem: str
) -> None:
    file = str(config(tmp_path))
    assert main(["study", file, "--output", str(tmp_path / "out"), "--set", word]) == 2
    told = capsys.readouterr().err
    assert problem in told and told.startswith("error: ") and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_setting_that_is_given_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", str(config(tmp_path)), "--set", "seconds=1", "--set", "seconds=2"]
    assert main(words) == 2
    assert capsys.readouterr().err == "error: --set seconds is given twice; leave one out\n"
