"""A study that is killed at any moment loses no finished run and runs none twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fake_studies import config, events, results
from tests.support.paths import ROOT


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gamma_nlp.cli.main", "study", "study.yaml", "--jobs", "2"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed,  # the tests themselves may run in the background, where Ctrl-C is ignored
    )


def _heed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def prepare(folder: Path, seconds: float, seeds: int = 6) -> None:
    arms = {"none": {}, "all": {"set": {"seconds": seconds * 1.1}}}
    config(folder, set={"seconds": seconds, "how": "well"}, arms=arms, seeds=seeds, output="out")


def kill(study: subprocess.Popen[str], how: str) -> None:
    number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[how.split()[0]]
    with contextlib.suppress(ProcessLookupError):  # it was quicker
        os.killpg(study.pid, number) if how.endswith("group") else os.kill(study.pid, number)


def check(folder: Path, seeds: int = 6) -> None:
    """Every run ended once, and was not started again after that."""
    told = events(folder)
    runs = {f"{arm} {seed}" for arm in ("none", "all") for seed in range(1, seeds + 1)}
    for run in runs:
        own = [what for what, who in told if who == run]
        assert own.count("end") == 1, (run, own)
        assert own[-1] == "end", (run, own)
    assert len(results(folder)) == len(runs)


def go_through(folder: Path, kills: int, longest: float) -> int:
    """Kill a study again and again, let it end, and return how often a kill hit it."""
    chance = random.Random(kills)
    hows = ["kill", "kill group", "term", "int", "term group", "int group"]
    hits = 0
    for number in range(kills):
        study = start(folder)
        time.sleep(chance.uniform(0.05, longest))
        hits += study.poll() is None
        how = hows[number % len(hows)]
        kill(study, how)
        printed, _ = study.communicate(timeout=60)
        assert "Traceback" not in printed, (how, printed)
    study = start(folder)
    printed, _ = study.communicate(timeout=120)
    assert study.returncode == 0, printed
    return hits


def test_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    prepare(tmp_path, 0.2)
    assert go_through(tmp_path, kills=6, longest=0.6) >= 4
    check(tmp_path)


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    prepare(tmp_path, 1.2, seeds=12)
    assert go_through(tmp_path, kills=20, longest=0.9) >= 15
    check(tmp_path, seeds=12)


@pytest.mark.parametrize(("how", "code"), [("int", 130), ("term", 143)])
def test_a_signal_ends_the_runs_and_says_how_to_go_on(tmp_path: Path, how: str, code: int) -> None:
    prepare(tmp_path, 30)
    study = start(tmp_path)
    until = time.monotonic() + 30
    while len(events(tmp_path)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    kill(study, how)
    printed, _ = study.communicate(timeout=30)
    assert study.returncode == code, printed
    assert "stopping 2 run" in printed and "the same command goes on from here" in printed
    pids = [int(line.split()[3]) for line in (tmp_path / "events").read_text().splitlines()]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not list(tmp_path.glob("out/runs/*/failed.json"))
