from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.report import write
from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.pictures import pictures
from gamma_nlp.study.report.write import FILES, FORMATS, write_report
from tests.support.findings import SCORES, hand_made


@pytest.fixture
def results(tmp_path: Path) -> Findings:
    return hand_made(tmp_path / "study")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_files_are_written_and_others_stay(results: Findings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    write_report(results, out)
    write_report(results, out)
    plots = {f"{name}.svg" for name, plot in pictures(results).items() if plot is not None}
    assert names(out) == {*FILES, "report.html", "report.md", "notes.txt", *plots}
    assert {"seeds.svg", "differences.svg"} <= plots
    markdown = (out / "report.md").read_text(encoding="utf-8")
    assert set(re.findall(r"!\[.*\]\((.*)\)", markdown)) == plots
    tables = FORMATS["markdown"](results)
    assert tables[tables.index("## ") :] in markdown


def test_a_plot_that_is_no_longer_drawn_goes(results: Findings, tmp_path: Path) -> None:
    write_report(results, tmp_path)
    (tmp_path / "doses.svg").write_text("of an earlier report")
    write_report(results, tmp_path)
    assert pictures(results)["doses"] is None and "doses.svg" not in names(tmp_path)


def test_a_plot_by_itself_is_a_picture_with_colours_of_its_own(
    results: Findings, tmp_path: Path
) -> None:
    write_report(results, tmp_path)
    for name in ("seeds.svg", "differences.svg"):
        content = (tmp_path / name).read_text(encoding="utf-8")
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert "currentColor" in content and "svg{color:#1a1a1a;background:#fff}" in content


def test_a_report_that_cannot_be_made_leaves_nothing(
    results: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Findings) -> str:
        raise GammaError("no plot")

    monkeypatch.setattr(write, "FILES", {**FILES, "report.html": broken})
    with pytest.raises(GammaError, match="no plot"):
        write_report(results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_leaves_the_earlier_report(
    results: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_report(results, out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    whole = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "comparisons.csv" in path.name:
            whole(path, data[:10])
            raise OSError(28, "No space left on device")
        return whole(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as stop:
        write_report(results, out)
    assert stop.value.filename == os.fspath(out / "comparisons.csv")
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_in_the_way_is_named(results: Findings, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(GammaError, match=r"output .*out is not a folder; give another name$"):
        write_report(results, tmp_path / "out")


def test_results_have_a_row_for_each_run(results: Findings) -> None:
    rows = list(csv.DictReader(FILES["results.csv"](results).splitlines()))
    assert len(rows) == sum(map(len, SCORES.values()))
    row = rows[4]
    assert (row["cell"], row["seed"], row["dose"]) == ("all_params", "2", "")
    assert float(row["accuracy"]) == 0.89 and float(row["metric"]) == pytest.approx(89.0)


def test_comparisons_have_every_number_and_no_nan(results: Findings) -> None:
    rows = list(csv.DictReader(FILES["comparisons.csv"](results).splitlines()))
    assert [(row["kind"], row["arm"]) for row in rows] == [
        *(("arm", "all_params"), ("arm", "half_&_half"), ("a_a", "none-again"))
    ]
    assert rows[0]["verdict"] == "worse" and float(rows[0]["difference"]) == -2.87
    assert rows[1]["low"] == "" and rows[1]["more_seeds"] == ""


def test_json_is_strict_and_whole(results: Findings) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    told = json.loads(FORMATS["json"](results), parse_constant=refuse)
    assert told["comparisons"][1]["low"] is None
    assert told["arms"][1]["seeds"] == {
        str(seed): pytest.approx(100 * score)
        for seed, score in enumerate(SCORES["all_params"], start=1)
    }
    assert told["left_out"] and told["unfinished"] and told["trends"][0]["slope"] == -1.5


def test_a_latex_table_has_as_many_cells_in_every_row(results: Findings) -> None:
    text = FILES["comparisons.tex"](results)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    columns = text.partition("{tabular}{")[2].partition("}")[0]
    for row in rows:
        assert row.replace(r"\&", "").count("&") == len(columns) - 1
    assert text.count("{") == text.count("}")
