"""Runs that are killed at any moment and resumed end with the bits of a run that was not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.run.checkpoints import checkpoints
from tests.support import glue_runs, translation_runs
from tests.support.paths import RECIPES, ROOT

KILLS = 10
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SAVES = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 2}


def sst2(folder: Path) -> list[str]:
    data = write_sst2(folder / "glue" / "SST-2", train=160, dev=24).parent
    changes: dict[str, Any] = {"num_train_epochs": 3, "dose": None, "weight_decay": 0.1} | SAVES
    return [str(RECIPES / "sst2.py"), *glue_runs.experiment(folder, data, **changes)]


def translation(folder: Path) -> list[str]:
    data = translation_runs.prepared_corpus(folder / "corpus")
    changes: dict[str, Any] = {"num_train_epochs": 6, "average_last": 2} | SAVES
    return [str(RECIPES / "translation.py"), *translation_runs.experiment(folder, data, **changes)]


def gemma3(folder: Path) -> list[str]:
    """(1 + w) gains decay toward 0 through the step hook, in half precision."""
    return [str(ROOT / "tests" / "support" / "gemma3_run.py"), str(folder / "run")]


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed,
    )


def _heed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill_within(process: subprocess.Popen[str], run: Path, which: int, delay: float) -> bool:
    """Send a signal some time after the run has begun to train; return whether it hit."""
    begun = time.time()
    record = run / "run.json"
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if record.stat().st_mtime > begun - 0.01:
                break
        time.sleep(0.002)
    time.sleep(delay)
    hit = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, which)
    return hit


@pytest.mark.slow
@pytest.mark.parametrize("make", [sst2, translation, gemma3])
def test_kills_change_nothing(make: Any, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = make(tmp_path / "whole")
    begun = time.monotonic()
    printed, _ = (process := start(whole)).communicate(timeout=600)
    assert process.returncode == 0, printed
    seconds = time.monotonic() - begun
    command, run = make(tmp_path / "killed"), tmp_path / "killed" / "run"
    chance, hits = random.Random(16), 0
    for number in range(60):
        found = checkpoints(run) if run.is_dir() else []
        if run.is_dir() and not found:
            shutil.rmtree(run)  # killed before its first checkpoint was whole
        process = start([*command, *(["--resume"] if found else [])])
        if hits < KILLS:
            which = SIGNALS[number % len(SIGNALS)]
            hits += kill_within(process, run, which, chance.uniform(0, seconds / 3))
        printed, _ = process.communicate(timeout=600)
        ended = "the run is finished" in printed  # the signal came after its last file
        assert ended or "Traceback" not in printed, printed
        if process.returncode == 0 or ended:
            if hits >= KILLS:
                break
            shutil.rmtree(run)  # it was quicker than the signal: once more from the start
    assert hits >= KILLS and (process.returncode == 0 or ended), printed
    one, other = (
        json.loads((tmp_path / name / "run" / "results.json").read_text())
        for name in ("whole", "killed")
    )
    for key in ("final", "history", "gain_norm", "dose", "scores", "steps", "padding_share"):
        assert one.get(key) == other.get(key), key
    last = [checkpoints(tmp_path / name / "run") for name in ("whole", "killed")]
    assert [path.name for path in last[0]] == [path.name for path in last[1]]
    for mine, theirs in zip(*last, strict=True):
        weights = "model.safetensors"
        assert (mine / weights).read_bytes() == (theirs / weights).read_bytes()
