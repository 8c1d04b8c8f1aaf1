from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.results.found import Found, find
from tests.support.studies import ACCURACY, Fake, change, fail, write_bare


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Fake(items=40, seeds=(1, 2, 3)).write(tmp_path / "study")


def kept(found: Found) -> set[str]:
    return {run.run.planned.folder.name for run in found.runs}


def test_runs_that_agree_all_count(study: Path) -> None:
    found = find(study)
    assert len(found.runs) == 6
    assert not found.left_out and not found.unfinished and not found.notes
    run = found.of("all")[2]
    assert run.value == pytest.approx(100 * run.scores[ACCURACY])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 7}, "seed is 7, 2 as planned"),
        ({"data__train": "c" * 16}, f"data.train is '{'c' * 16}', '{'a' * 16}' as planned"),
        ({"data__validation": "c"}, f"data.validation is 'c', '{'b' * 16}' as planned"),
        ({"versions__torch": "2.12.0"}, "versions.torch is '2.12.0', '2.13.0' in the others"),
        ({"precision": "bf16"}, "precision is 'bf16', 'fp32' in the others"),
        ({"task": "cola"}, "task is 'cola', 'sst2' in the others"),
        ({"model": "BERT"}, "model is 'BERT', 'MiniLM' in the others"),
        ({"groups": "0" * 16}, f"groups is '{'0' * 16}', '{sum(map(ord, 'all')):016x}' as planned"),
        ({"weight_decay": 0.2}, "weight_decay is 0.2, 0.1 as planned"),
        ({"planned_steps": 400, "steps": 400}, "planned_steps is 400, 313 as planned"),
        ({"steps": 200}, "steps is 200, 313 in its planned_steps: it stopped early"),
        ({"policy__name": "none"}, "policy.name is 'none', 'all' in the others"),
        ({"final__eval_accuracy": float("nan")}, "final.eval_accuracy is nan, which is no score"),
        ({"final__eval_accuracy": float("inf")}, "final.eval_accuracy is inf, which is no score"),
        (
            {"final__eval_accuracy": None},
            "final.eval_accuracy is missing; did you mean 'final.eval",
        ),
        (
            {"final__eval_accuracy": 91.2},
            "final.eval_accuracy is 91.2, no share of 1, so it is in p",
        ),
        ({"versions": "2.13"}, "versions must be an object, not '2.13'"),
        ({"seed": "2"}, "seed must be a whole number, not '2'"),
    ],
)
def test_a_run_that_differs_is_left_out_and_named(
    changes: dict[str, Any], line: str, study: Path
) -> None:
    change(study, "all-seed2", **changes)
    found = find(study)
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith(f"runs/all-seed2/results.json: {line}")
    assert "all-seed2" not in kept(found) and len(found.runs) == 5


def test_an_arm_of_other_versions_altogether_is_left_out(study: Path) -> None:
    for seed in (1, 2, 3):
        change(study, f"all-seed{seed}", versions__torch="2.12.0")
    found = find(study)
    assert kept(found) == {"none-seed1", "none-seed2", "none-seed3"}
    assert len(found.left_out) == 3


def test_where_no_plan_says_it_most_runs_decide(tmp_path: Path) -> None:
    folder = write_bare(tmp_path, {"none": [0.8, 0.81, 0.82], "all": [0.7, 0.71, 0.72]})
    for number in (1, 2, 3):
        change(folder, f"none-seed{number}", data={"train": "x"})
        change(folder, f"all-seed{number}", data={"train": "y" if number == 2 else "x"})
    found = find(folder)
    assert found.left_out == ("runs/all-seed2/results.json: data.train is 'y', 'x' in the others",)


def test_an_arm_may_set_its_precision_on_purpose(tmp_path: Path) -> None:
    folder = Fake(items=40, seeds=(1, 2)).write(tmp_path)
    record = json.loads((folder / "study.json").read_text())
    record["cells"][1]["set"] = {"precision": "bf16"}
    (folder / "study.json").write_text(json.dumps(record))
    for seed in (1, 2):
        change(folder, f"all-seed{seed}", precision="bf16")
    assert len(find(folder).runs) == 4
    change(folder, "all-seed2", precision="fp16")
    assert find(folder).left_out[0].endswith("precision is 'fp16', 'bf16' in the others")


def test_failed_and_missing_runs_are_told_and_do_not_stop_the_rest(study: Path) -> None:
    fail(study, "all-seed1")
    (study / "runs" / "all-seed3" / "results.json").unlink()
    (study / "runs" / "none-seed3" / "results.json").unlink()
    found = find(study)
    assert len(found.runs) == 3
    assert found.unfinished == (
        "all, seed 1 failed with exit code 1: error: CUDA out of memory (runs/all-seed1)",
        "2 runs are not finished; if the study does not run any more, start it again: "
        "gamma-nlp study studies/sst2.yaml",
    )


def test_results_cut_short_are_left_out_by_name(study: Path) -> None:
    file = study / "runs" / "all-seed1" / "results.json"
    file.write_text(file.read_text()[:99])
    (line,) = find(study).left_out
    assert line.startswith("runs/all-seed1/results.json:") and "not valid JSON" in line


def test_a_run_that_is_not_of_the_plan_does_not_count(study: Path) -> None:
    shutil.copytree(study / "runs" / "all-seed1", study / "runs" / "all-seed9")
    found = find(study)
    assert len(found.runs) == 6
    assert found.notes == ("not of this study's plan, so not counted: all-seed9",)


def test_no_finished_run_is_an_error_that_says_why(study: Path) -> None:
    for run in ("none", "all"):
        for seed in (1, 2, 3):
            fail(study, f"{run}-seed{seed}")
    with pytest.raises(GammaError, match=r"no finished run .* of 6 planned: none, seed 1 failed"):
        find(study)


def test_no_run_that_can_be_compared_is_an_error_that_says_why(study: Path) -> None:
    for run in ("none", "all"):
        for seed in (1, 2, 3):
            change(study, f"{run}-seed{seed}", weight_decay=0.3)
    with pytest.raises(GammaError, match=r"no finished run can be compared: .*weight_decay is 0.3"):
        find(study)


def test_equal_scores_are_noted(tmp_path: Path) -> None:
    folder = write_bare(
        tmp_path, {"none": [0.8, 0.8, 0.8], "all": [0.8, 0.8, 0.8], "timm": [0.7, 0.8, 0.9]}
    )
    notes = find(folder).notes
    assert "all 3 seeds of none have one score: do seeds act?" in notes
    assert (
        "all and none have the same score for every seed: "
        "does the option that tells them apart act?" in notes
    )


def test_one_score_for_every_run_is_noted_once(tmp_path: Path) -> None:
    notes = find(write_bare(tmp_path, {"none": [0.44, 0.44], "all": [0.44, 0.44]})).notes
    assert notes[-1] == (
        "every run scores 44 points: has anything been learned, and does the metric see it?"
    )


def test_what_foreign_runs_do_not_tell_is_noted(tmp_path: Path) -> None:
    notes = find(write_bare(tmp_path, {"none": [0.8, 0.7], "all": [0.6, 0.8]})).notes
    assert "no run tells its data, so nothing says whether all runs had the same" in notes


def test_another_metric_than_planned_is_said_and_has_no_margin(study: Path) -> None:
    found = find(study, metric=["eval_loss"])
    assert found.study.metric.scores == ("final.eval_loss",)
    assert (
        found.study.metric.smallest_difference is None and not found.study.metric.higher_is_better
    )
    assert "final.eval_loss was chosen after the runs" in found.notes[0]


@pytest.mark.parametrize(("key", "value"), [("baseline", "none"), ("margin", 0.5)])
def test_what_was_fixed_before_the_runs_stays(key: str, value: Any, study: Path) -> None:
    with pytest.raises(GammaError, match="was fixed before the runs of this study"):
        find(study, **{key: value})


def test_a_folder_that_is_no_study_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"is no study: it has no study.json.*--baseline POLICY"):
        find(tmp_path)
    with pytest.raises(GammaError, match=r"nothing-here does not exist; give the folder"):
        find(tmp_path / "nothing-here")


def test_a_failure_without_a_code_or_a_reason_is_told(study: Path) -> None:
    fail(study, "all-seed1")
    file = study / "runs" / "all-seed1" / "failed.json"
    for text, told in (
        ('{"code": null, "last_line": "killed"}', "all, seed 1 failed: killed (runs/all-seed1)"),
        ('{"code": 1, "last_line": null}', "all, seed 1 failed with exit code 1 (runs/all-seed1)"),
        ("{", "all, seed 1 failed (runs/all-seed1)"),
    ):
        file.write_text(text)
        assert find(study).unfinished == (told,)


def test_shares_that_are_shown_as_points_are_noted(tmp_path: Path) -> None:
    metric = {"scores": ["accuracy"], "unit": "points", "scale": 1}
    found = find(write_bare(tmp_path, {"none": [0.9, 0.91], "all": [0.8, 0.82]}, metric=metric))
    assert any("is it a share, whose scale is 100?" in note for note in found.notes)


def test_one_run_that_does_not_tell_is_singular(study: Path) -> None:
    change(study, "all-seed1", versions=None, data=None)
    notes = find(study).notes
    assert (
        "1 run does not tell its versions, so nothing says whether all runs had the same" in notes
    )
