from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from tests.support.studies import Fake, change, write_bare

Capture = pytest.CaptureFixture[str]
FILES = {
    *("report.html", "report.md", "report.txt", "results.csv", "comparisons.csv", "seeds.svg"),
    "comparisons.tex",
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Fake(items=40, seeds=(1, 2, 3)).write(tmp_path / "study")


def error(words: list[str], capsys: Capture) -> str:
    assert main.main(["report", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_it_prints_the_report_and_writes_its_files(study: Path, capsys: Capture) -> None:
    assert main.main(["report", str(study)]) == 0
    captured = capsys.readouterr()
    assert {path.name for path in (study / "report").iterdir()} >= FILES
    assert captured.out == (study / "report" / "report.txt").read_text(encoding="utf-8")
    assert f"open {study / 'report' / 'report.html'}" in captured.err


def test_files_go_where_they_are_asked_to(study: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main.main(["report", str(study), "-o", str(tmp_path / "a" / "b")]) == 0
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} >= FILES
    assert not (study / "report").exists()


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "json"])
def test_every_format_is_printed_alone(form: str, study: Path, capsys: Capture) -> None:
    assert main.main(["report", str(study), "--format", form, "--no-files"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and not (study / "report").exists()
    if form == "json":
        assert json.loads(captured.out)["name"] == "sst2-minilm"
    elif form == "csv":
        assert [row["arm"] for row in csv.DictReader(captured.out.splitlines())] == ["all"]
    else:
        assert captured.out.startswith({"markdown": "# ", "latex": r"\begin", "text": "sst2"}[form])


def test_any_folder_of_runs_can_be_reported(study: Path, capsys: Capture) -> None:
    (study / "study.json").unlink()
    words = ["report", str(study), "--baseline", "none", "--metric", "eval_accuracy", "--no-files"]
    assert main.main(words) == 0
    assert "No smallest difference that matters was given" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main.main([*words, "--smallest-difference", "40"]) == 0
    assert "matters is 40 points, given with this report" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_metric_may_be_the_mean_of_several(tmp_path: Path, capsys: Capture) -> None:
    folder = Fake(bleu=True, items=30, seeds=(1, 2)).write(tmp_path)
    score = "scores.{}.sacrebleu".format
    words = ["--metric", f"{score('test2016')},{score('test2017')}", "--format", "json"]
    assert main.main(["report", str(folder), *words, "--no-files"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"]["scores"] == [score("test2016"), score("test2017")]


def test_a_run_that_is_left_out_is_on_the_terminal(study: Path, capsys: Capture) -> None:
    change(study, "all-seed2", data__validation="other")
    assert main.main(["report", str(study), "--no-files"]) == 0
    out = capsys.readouterr().out
    assert "Left out:\n- runs/all-seed2/results.json: data.validation is 'other'" in out


def test_what_a_user_can_get_wrong_is_one_line(
    study: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert "none-such does not exist" in error([str(tmp_path / "none-such")], capsys)
    (tmp_path / "empty").mkdir()
    assert "--baseline POLICY --metric SCORE" in error([str(tmp_path / "empty")], capsys)
    assert "did you mean 'final.eval_accuracy'" in error(
        [str(study), "--metric", "final.eval_acuracy"], capsys
    )
    assert "--smallest-difference was fixed before" in error(
        [str(study), "--smallest-difference", "1"], capsys
    )
    assert "--smallest-difference must be a number above 0, not nan" in error(
        [str(study), "--smallest-difference", "nan"], capsys
    )
    assert "--output and --no-files exclude each other" in error(
        [str(study), "--no-files", "-o", "x"], capsys
    )
    assert "invalid choice: 'html'" in error([str(study), "--format", "html"], capsys)
    (study / "study.json").write_text("{")
    assert "study.json:1: not valid JSON" in error([str(study)], capsys)
    assert "study.json is not a folder; give" in error([str(study / "study.json")], capsys)


def test_a_file_in_the_way_of_the_output_is_named(study: Path, capsys: Capture) -> None:
    (study / "report").write_text("x")
    assert "report is not a folder; give another name" in error([str(study)], capsys)


def test_foreign_runs_are_reported(tmp_path: Path, capsys: Capture) -> None:
    folder = write_bare(tmp_path, {"none": [0.9, 0.91, 0.92], "all": [0.8, 0.83, 0.81]})
    assert main.main(["report", str(folder)]) == 0
    assert "about 95 hold the true difference; over seeds; t interval" in " ".join(
        capsys.readouterr().out.split()
    )
