"""``study.json`` is kept to: a study may grow, and what was settled before its runs stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp import workers
from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.config import read_study
from gamma_nlp.study.study import run_study
from tests.support.fake_studies import COMMAND, config, events, results


def run(folder: Path, **changes: Any) -> int:
    study = read_study(config(folder, **changes))
    return run_study(study, jobs=2, say=lambda text: None, note=lambda text: None)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "study.json").read_text())
    return found


def test_the_record_says_what_is_compared_before_anything_ran(tmp_path: Path) -> None:
    with pytest.raises(GammaError):
        run(tmp_path, metric="final.eval_loss")
    found = record(tmp_path)
    assert found["metric"] == {
        "scores": ["final.eval_loss"], "higher_is_better": False, "smallest_difference": 0.5,
        "unit": "nats", "scale": 1.0,
    }  # fmt: skip
    assert found["config"]["seeds"] == 3
    assert found["runs"][0]["command"][:2] == ["python", str(tmp_path / "train.py")]


def test_seeds_and_arms_may_be_added(tmp_path: Path) -> None:
    run(tmp_path)
    started = record(tmp_path)["started"]
    more = {"none": {}, "all": {"set": {"seconds": 0.02}}, "third": {"set": {"seconds": 0.03}}}
    assert run(tmp_path, seeds=4, arms=more) == 0
    assert len(results(tmp_path)) == 12
    assert len([what for what, _ in events(tmp_path) if what == "start"]) == 12
    assert record(tmp_path)["started"] == started


GONE: list[tuple[dict[str, Any], str]] = [
    ({"seeds": 2}, r"no longer has seed 3: put it back \(a study may grow, not shrink\)"),
    ({"seeds": [1, 2, 4]}, "no longer has seed 3"),
    ({"arms": {"none": {}, "other": {"set": {"how": "a"}}}}, "no longer has cell 'all'"),
    ({"smallest_difference": 0.1}, r"metric.smallest_difference was 0.5 and is 0.1: what is compa"),
    ({"smallest_difference": None}, "metric.smallest_difference was 0.5 and is"),
    ({"metric": "seed", "smallest_difference": 0.5}, "say which way"),
    ({"metric": {"score": "accuracy", "higher_is_better": False}}, "metric.higher_is_better was"),
    ({"baseline": "all"}, "baseline was 'none' and is 'all': what is compared is settled before"),
    (
        {"set": {"seconds": 0.04, "how": "well"}},
        "had other settings: set.seconds was 0.01 and",
    ),
    (
        {"arms": {"none": {}, "all": {"set": {"seconds": 1}}}},
        "arms.all.set.seconds was 0.02 and is",
    ),
    ({"command": [*COMMAND, "--x", "1"]}, "had other settings: command was"),
]


@pytest.mark.parametrize(("changes", "problem"), GONE, ids=lambda value: str(value)[:50])
def test_what_was_settled_stays(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    run(tmp_path)
    before = record(tmp_path), events(tmp_path)
    with pytest.raises(GammaError, match=problem):
        run(tmp_path, **changes)
    assert (record(tmp_path), events(tmp_path)) == before


def test_before_the_first_result_all_may_change(tmp_path: Path) -> None:
    fails = {"none": {}, "all": {"set": {"seconds": 0.02}}}
    assert run(tmp_path, arms=fails, set={"seconds": 0.01, "how": "fails"}) == 1
    assert run(tmp_path, seeds=2, smallest_difference=1, set={"seconds": 0, "how": "well"}) == 0
    assert record(tmp_path)["seeds"] == [1, 2]


def test_a_policy_file_that_changed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [workers.Answer(), workers.Answer()]  # both policies can be loaded
    monkeypatch.setattr(workers, "call_all", lambda *call, **options: here)
    command = [*COMMAND, "{policy}"]
    arms = {"none": {"policy": "none"}, "mine": {"policy": "mine.yaml"}}
    (tmp_path / "mine.yaml").write_text("base: all\n")
    script = {"command": [*command[:-2], "well{policy}"], "set": {"seconds": 0}}
    run(tmp_path, arms=arms, **script)
    (tmp_path / "mine.yaml").write_text("base: all\ntarget: start\n")
    with pytest.raises(GammaError, match=r"arms.mine.policy.target was not set and is 'start'"):
        run(tmp_path, arms=arms, **script)


def test_packages_that_changed_since_are_said(tmp_path: Path) -> None:
    run(tmp_path)
    content = record(tmp_path)
    content["versions"]["torch"] = "1.0"
    (tmp_path / "out" / "study.json").write_text(json.dumps(content))
    told: list[str] = []
    run_study(read_study(config(tmp_path, seeds=4)), say=lambda text: None, note=told.append)
    assert any("since the study began torch was '1.0' and is" in text for text in told)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(
        GammaError, match=r"holds 'thesis.tex' and no study.json, so it is no study"
    ):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ['{"schema": 1', '{"schema": 2}', "[]"])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text(text)
    with pytest.raises(GammaError, match=r"study\.json"):
        run(tmp_path)


def test_scores_in_per_cent_can_be_put_right_without_running_again(tmp_path: Path) -> None:
    how = {"seconds": 0.01, "how": "percent"}
    with pytest.raises(GammaError, match=r"write `metric: {score: final.accuracy, scale: 1}`"):
        run(tmp_path, set=how)
    assert run(tmp_path, set=how, metric={"score": "final.accuracy", "scale": 1}) == 0
    with pytest.raises(GammaError, match=r"metric.scale was 1\b.* is settled before the first run"):
        run(tmp_path, set=how)


def test_a_record_that_was_edited_names_what_is_wrong(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "out" / "study.json"
    whole = json.loads(file.read_text())
    needed = ("metric", "baseline", "seeds", "cells", "runs", "inputs", "config")
    wrong = [
        *({**whole, key: None} for key in needed),
        *({**whole, key: 3} for key in (*needed, "versions")),
        *({key: value for key, value in whole.items() if key != left} for left in needed),
        {**whole, "config": {**whole["config"], "arms": ["none", "all"]}},
        {**whole, "config": {**whole["config"], "arms": {"none": "none"}}},
        {**whole, "inputs": {**whole["inputs"], "policies": []}},
        {**whole, "runs": [{key: 1 for key in one if key != "folder"} for one in whole["runs"]]},
    ]
    for record in wrong:
        file.write_text(json.dumps(record))
        with pytest.raises(GammaError, match=r"study.json: .*put it back, or give another output$"):
            run(tmp_path)
    for key in ("versions", "about", "name"):
        file.write_text(json.dumps({**whole, key: None}))
        run(tmp_path)
    plans = [{key: value for key, value in one.items() if key != "plan"} for one in whole["cells"]]
    file.write_text(json.dumps({**whole, "cells": plans}))
    run(tmp_path)


def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(GammaError, match="is a file; give another folder"):
        run(tmp_path)
