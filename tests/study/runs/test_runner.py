"""Runs are processes of their own: finished ones are kept, failed ones do not stop the rest."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.config import read_study
from gamma_nlp.study.runs.folder import LOCK
from gamma_nlp.study.study import run_study
from gamma_nlp.tasks.run.lock import take
from tests.support.fake_studies import COMMAND, config, events, results


class Said(list[str]):
    def __str__(self) -> str:
        return "\n".join(self)


def run(folder: Path, *, said: list[str] | None = None, jobs: int = 2, **changes: Any) -> int:
    keep = changes.pop("keep_failed", False)
    told = [] if said is None else said
    study = read_study(config(folder, **changes))
    return run_study(study, jobs=jobs, keep_failed=keep, say=told.append, note=told.append)


def all_with(how: str) -> dict[str, Any]:
    """The arms of a study in which one arm misbehaves."""
    return {"arms": {"none": {}, "all": {"set": {"how": how}}}}


def starts(folder: Path) -> list[str]:
    return [who for what, who in events(folder) if what == "start"]


def test_every_cell_is_run_once_with_every_seed_and_pairs_come_first(tmp_path: Path) -> None:
    assert run(tmp_path, jobs=1) == 0
    assert starts(tmp_path) == [f"{arm} {seed}" for seed in (1, 2, 3) for arm in ("none", "all")]
    assert [one["seed"] for one in results(tmp_path).values()] == [1, 2, 3, 1, 2, 3]
    record = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [one["name"] for one in record["cells"]] == ["none", "all"]
    assert [one["against"] for one in record["cells"]] == [None, "none"]
    assert {tmp_path / "out" / one["folder"] for one in record["runs"]} == {
        path.parent for path in (tmp_path / "out").glob("runs/*/results.json")
    }


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    run(tmp_path)
    before = events(tmp_path)
    said = Said()
    assert run(tmp_path, said=said) == 0
    assert events(tmp_path) == before
    assert "all 6 runs are finished" in str(said)


def test_a_run_has_a_log_threads_and_no_terminal(tmp_path: Path) -> None:
    run(tmp_path, threads=3)
    log = (tmp_path / "out" / "runs" / "all-seed2" / "run.log").read_text()
    assert log.startswith("threads 3 gpu")
    assert "found ['run.lock', 'run.log']" in log


def test_gpus_are_given_to_runs_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    study = read_study(config(tmp_path))
    assert run_study(study, say=lambda text: None, note=lambda text: None) == 0
    logs = [path.read_text() for path in (tmp_path / "out").glob("runs/*/run.log")]
    assert {log.split()[3] for log in logs} == {"4", "6"}


def test_failed_runs_do_not_stop_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Said()
    assert run(tmp_path, said=said, **all_with("fails")) == 1
    assert len(results(tmp_path)) == 3
    folder = tmp_path / "out" / "runs" / "all-seed2"
    noted = json.loads((folder / "failed.json").read_text())
    assert (noted["code"], noted["last_line"]) == (1, "out of luck")
    assert "out of luck" in (folder / "run.log").read_text()
    assert str(said).count("failed: all seed") == 3
    assert "all seed 2 failed: out of luck" in capsys.readouterr().out


def test_failed_runs_are_tried_again_from_an_empty_folder(tmp_path: Path) -> None:
    run(tmp_path, **all_with("fails"))
    (tmp_path / "mended").touch()
    assert run(tmp_path, **all_with("fails")) == 0
    folder = tmp_path / "out" / "runs" / "all-seed2"
    assert sorted(path.name for path in folder.iterdir()) == ["results.json", "run.lock", "run.log"]
    assert starts(tmp_path).count("all 2") == 2
    assert starts(tmp_path).count("none 2") == 1


def test_failed_runs_can_be_left_alone(tmp_path: Path) -> None:
    run(tmp_path, **all_with("fails"))
    before = events(tmp_path)
    said = Said()
    assert run(tmp_path, said=said, keep_failed=True, **all_with("fails")) == 1
    assert events(tmp_path) == before
    assert "failed: all seed 1: out of luck" in said[-1]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("killed", "killed by SIGKILL; was memory short?"),
        ("silent", "it ended well but wrote no results.json into"),
        ("other-seed", "results.json is of seed 101, not 1: the command has to use {seed}"),
        ("cut", "results.json:1: not valid JSON"),
        ("nan", "final.accuracy is nan, which is no score"),
        ("percent", "final.accuracy is 91, no share of 1"),
        ("no-score", "has no 'final.accuracy', which is the metric; its scores are"),
    ],
)
def test_a_run_without_usable_results_failed(tmp_path: Path, how: str, reason: str) -> None:
    assert run(tmp_path, jobs=1, seeds=2, **all_with(how)) == 1
    noted = json.loads((tmp_path / "out" / "runs" / "all-seed1" / "failed.json").read_text())
    assert reason in noted["last_line"]
    assert run(tmp_path, jobs=1, seeds=2, **all_with(how)) == 1  # and is not taken for finished now
    assert starts(tmp_path).count("all 1") == 2
    assert starts(tmp_path).count("none 1") == 1


def test_a_run_that_failed_by_its_score_is_not_told_as_finished(tmp_path: Path) -> None:
    said = Said()
    for _ in range(2):
        assert run(tmp_path, said=said, seeds=2, **all_with("nan")) == 1
    assert str(said).count("\n2 of 4 runs are finished") == 2
    assert "2 runs finished, 2 to run" in str(said)


def test_what_to_type_next_can_be_pasted(tmp_path: Path) -> None:
    said, output = Said(), str(tmp_path / "my größe")
    assert run(tmp_path, said=said, output=output) == 0
    assert str(said).endswith(f"gamma-nlp report '{output}'")


def test_a_full_device_does_not_keep_a_lock_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)  # who holds a lock is told, but not needed
    assert run(tmp_path) == 0


def test_results_that_were_cut_short_since_are_named_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    file = tmp_path / "out" / "runs" / "all-seed3" / "results.json"
    whole = file.read_text()
    file.write_text(whole[:-4])
    assert run(tmp_path) == 0
    assert f"all seed 3 is run again: {file}:1: not valid JSON" in capsys.readouterr().out
    assert file.read_text() == whole


def test_a_run_that_fails_after_its_results_is_finished_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, **all_with("late")) == 0
    assert "it ended with exit code 1 after writing its results" in capsys.readouterr().out


def test_a_metric_that_no_run_has_ends_the_study_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        GammaError, match=r"no 'final.eval_accuracy', .*; did you mean 'final.accuracy'"
    ):
        run(tmp_path, jobs=1, metric="final.eval_accuracy")
    assert len(starts(tmp_path)) == 2


def test_a_metric_can_be_put_right_without_running_again(tmp_path: Path) -> None:
    with pytest.raises(GammaError):
        run(tmp_path, jobs=1, metric="final.eval_accuracy")
    with pytest.raises(GammaError, match="did you mean"):
        run(tmp_path, jobs=1, metric="final.eval_accuracy")
    assert len(starts(tmp_path)) == 2
    assert run(tmp_path, jobs=1, metric="accuracy") == 0
    assert len(starts(tmp_path)) == 6
    assert not list(tmp_path.glob("out/runs/*/failed.json"))


def test_a_program_that_cannot_be_started_is_one_line(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(GammaError, match=r"cannot start '.*program'"):
        run(tmp_path, command=[str(program), *COMMAND[2:]])


def test_two_studies_do_not_share_a_folder(tmp_path: Path) -> None:
    run(tmp_path)
    held = take(tmp_path / "out" / ".study.lock")
    assert held is not None
    try:
        with pytest.raises(GammaError, match=r"a study runs here already \(process \d+\)"):
            run(tmp_path)
    finally:
        os.close(held)
    assert run(tmp_path) == 0


def test_a_run_that_a_killed_study_left_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    folder = tmp_path / "out" / "runs" / "none-seed1"
    (folder / "results.json").unlink()
    held = take(folder / LOCK)
    assert held is not None
    words = [sys.executable, str(tmp_path / "train.py"), "--seed", "1", "--arm", "none"]
    words += ["--out", str(folder), "--seconds", "0.5", "--how", "well"]
    with subprocess.Popen(words, pass_fds=(held,), stdout=subprocess.DEVNULL) as orphan:
        os.close(held)
        assert run(tmp_path) == 0
        assert orphan.wait() == 0
    assert "none seed 1 runs already (" in capsys.readouterr().out
    assert starts(tmp_path).count("none 1") == 2  # the first, and this one
    assert len(results(tmp_path)) == 6


def test_runs_leave_no_time_between_them(tmp_path: Path) -> None:
    begin = time.monotonic()
    run(tmp_path, jobs=3, set={"seconds": 0.6, "how": "well"}, arms={
        "none": {}, "all": {"set": {"seconds": 0.61}}})  # fmt: skip
    wall = time.monotonic() - begin
    lines = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    first = min(float(line[4]) for line in lines)
    last = max(float(line[4]) for line in lines)
    assert last - first < 2 * 0.61 + 0.5  # two rounds, and the second start of Python
    assert wall < 2 * 0.61 + 1.5
