"""A translation run that was stopped: resumed to the same bits, or refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import checkpoints
from gamma_nlp.tasks.run.main import run as run_main
from tests.support.translation_runs import (
    LONG,
    RECIPE,
    experiment,
    recipe,
    same,
    train,
)


def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **LONG)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(RECIPE.parents[1])
    process = subprocess.Popen(
        [sys.executable, str(RECIPE), *argv],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = tmp_path / "run"
    while len(checkpoints(run)) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "results.json").exists()
    found = train([*argv, "--resume"])
    assert found["resumed"]
    for name in ("averaged", checkpoints(whole)[-1].name):
        assert same(run / name, whole / name)
    assert found["scores"] == json.loads((whole / "results.json").read_text())["scores"]


def test_a_checkpoint_that_was_cut_off_is_written_again(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **LONG)
    shutil.copytree(whole, tmp_path / "run")
    run = tmp_path / "run"
    for name in ("results.json", "training.png"):
        (run / name).unlink()
    shutil.rmtree(run / "averaged")
    last = checkpoints(run)[-1]
    state = (last / "trainer_state.json").read_bytes()
    (last / "trainer_state.json").write_bytes(state[: len(state) // 2])
    (last / "model.safetensors").write_bytes(b"half")
    train([*argv, "--resume"])
    assert same(run / last.name, whole / last.name)
    assert same(run / "averaged", whole / "averaged")


def unscored(run: Path, copy: Path) -> Path:
    """A copy of a finished run as a kill after the last step leaves it."""
    shutil.copytree(run, copy)
    for name in ("results.json", "training.png"):
        (copy / name).unlink()
    for name in ("averaged", "translations"):
        shutil.rmtree(copy / name)
    return copy


def test_a_run_that_was_killed_after_its_last_step_is_scored_without_another_one(
    whole: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = experiment(tmp_path, data, **LONG)
    run = unscored(whole, tmp_path / "run")
    last = checkpoints(run)[-1] / "model.safetensors"
    before = last.stat().st_mtime_ns
    assert run_main(recipe().main, [*argv, "--resume"]) == 0
    assert "no step was left to train" in capsys.readouterr().out
    assert last.stat().st_mtime_ns == before
    assert same(run / "averaged", whole / "averaged")
    found, expected = (json.loads((path / "results.json").read_text()) for path in (run, whole))
    for name in ("scores", "history", "final", "best", "dose", "gain_norm", "steps"):
        assert found[name] == expected[name], name


def test_a_run_that_ended_early_is_scored_or_refused_but_not_trained_on(
    data: Path, tmp_path: Path
) -> None:
    # BLEU stays at 0, so patience is spent. Evaluations fall within epochs.
    early = {"patience": 2, "learning_rate": "1e-6", "num_train_epochs": 9, "beams": 1}
    early |= {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    found = train(argv := experiment(tmp_path, data, **early))
    assert found["steps"] == 6
    with pytest.raises(GammaError, match="step 6 of 81, when its patience was spent"):
        train([*argv, "--resume"])
    unscored(tmp_path / "run", tmp_path / "copy")
    again = train([*argv, "--output_dir", str(tmp_path / "copy"), "--resume"])
    assert again["steps"] == 6 and again["scores"] == found["scores"]
    assert train([*argv, "--resume", "--patience", "3"])["steps"] == 8


def test_a_run_is_not_resumed_with_data_that_was_prepared_again(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **LONG)
    run = unscored(whole, tmp_path / "run")
    other = shutil.copytree(data, tmp_path / "other")
    with (other / "vocab").open("a") as file:
        file.write("another 1\n")
    codes = (run / "text/source/tokenizer.json").read_bytes()
    with pytest.raises(GammaError, match=r"other subwords or vocabularies .* prepared again"):
        train([*argv, "--resume", "--data", str(other)])
    assert (run / "text/source/tokenizer.json").read_bytes() == codes


def test_a_finished_run_is_neither_written_over_nor_resumed(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **LONG, output_dir=str(whole))
    before = (whole / "results.json").read_bytes()
    with pytest.raises(GammaError, match="already holds a run"):
        train(argv)
    with pytest.raises(GammaError, match="the run is finished; give more --num_train_epochs"):
        train([*argv, "--resume"])
    with pytest.raises(GammaError, match="max_tokens was 128 and is 64"):
        train([*argv, "--resume", "--max_tokens", "64"])
    with pytest.raises(GammaError, match="decay_policy was 'all' and is 'none'"):
        train([*argv, "--resume", "--decay_policy", "none", "--num_train_epochs", "9"])
    assert (whole / "results.json").read_bytes() == before
