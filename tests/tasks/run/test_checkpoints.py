"""A checkpoint is continued from whole or not at all, and a full disk leaves no half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.checkpoints import check_resumable
from gamma_nlp.tasks.run.main import run
from tests.support.glue_runs import experiment

FIXED = {"dose": None, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue") / "SST-2", train=24, dev=12).parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A finished run of 6 steps with a checkpoint after 3."""
    folder = tmp_path_factory.mktemp("finished")
    train(experiment(folder, data, **FIXED))
    return folder / "run"


def train(argv: list[str]) -> dict[str, Any]:
    return finetune(*read_arguments(argv), quiet=True)


def main(argv: Any) -> None:
    train(list(argv))


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGES = {
    "weights cut off": (_cut("model.safetensors"), r"model\.safetensors is damaged"),
    "optimizer cut off": (_cut("optimizer.pt"), r"optimizer\.pt is damaged \(it was cut off\)"),
    "random state cut off": (_cut("rng_state.pth"), r"rng_state\.pth is damaged"),
    "no weights": (_drop("model.safetensors"), "lacks 'weights'"),
    "no optimizer": (_drop("optimizer.pt"), r"lacks 'optimizer\.pt' \(save_only_model leaves"),
    "no schedule": (_drop("scheduler.pt"), r"lacks 'scheduler\.pt'"),
    "no random state": (_drop("rng_state.pth"), r"lacks 'rng_state\.pth'"),
    "no state": (lambda f: (f / "trainer_state.json").write_text("{}"), "of step None, not 6"),
    "another's state": (lambda f: (f / "trainer_state.json").write_text("[1]"), "of step None"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_training_cannot_go_on_from_is_named(
    damage: str, finished: Path, tmp_path: Path
) -> None:
    harm, message = DAMAGES[damage]
    shutil.copytree(finished / "checkpoint-6", tmp_path / "checkpoint-6")
    check_resumable(tmp_path / "checkpoint-6", 6)
    harm(tmp_path / "checkpoint-6")
    with pytest.raises(GammaError, match=message + ".*delete this checkpoint to --resume from"):
        check_resumable(tmp_path / "checkpoint-6", 6)


def test_what_only_loading_finds_is_one_line_too(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **FIXED, num_train_epochs=3)
    shutil.copytree(finished, tmp_path / "run")
    torch.save({}, tmp_path / "run" / "checkpoint-6" / "optimizer.pt")
    with pytest.raises(GammaError, match=r"cannot continue from .*checkpoint-6: KeyError 'param_"):
        train([*argv, "--resume"])
    assert not (tmp_path / "run" / "checkpoint-9").exists()


def test_more_epochs_under_a_dose_say_which_weight_decay_to_give(
    data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, num_train_epochs=1)
    was = train(argv)["weight_decay"]
    more = [*argv, "--resume", "--num_train_epochs", "2"]
    with pytest.raises(GammaError, match=r"which dose 0\.2 asks for over 6 steps") as caught:
        train(more)
    assert f"give --weight_decay {was!r} in place of the dose" in str(caught.value)
    assert train([*more, "--weight_decay", repr(was)])["steps"] == 6


FAILURES = {
    "OSError": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "of torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_full_disk_leaves_no_half_of_a_checkpoint(
    failure: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = experiment(tmp_path, data, **FIXED)
    save = Trainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if folder.endswith("-6"):
            raise FAILURES[failure]
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        assert run(main, argv) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error:")]
    assert "checkpoint-6: " in line
    assert "MiB are free there); free some space, or write elsewhere; the same" in line
    assert line.endswith("command with --resume continues from checkpoint-3")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-3"]
    assert train([*argv, "--resume"])["steps"] == 6


@pytest.mark.parametrize("file", ["training.png", "results.json"])
def test_results_that_a_full_disk_kept_from_being_written_are_resumed(
    file: str,
    finished: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = experiment(tmp_path, data, **FIXED)
    write = Path.write_bytes

    def full(self: Path, content: Any) -> int:
        if file in self.name:
            write(self, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert run(main, argv) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith(f"error: cannot write {tmp_path / 'run' / file}: No space left")
    assert not [path.name for path in (tmp_path / "run").iterdir() if file in path.name]
    found = train([*argv, "--resume"])
    whole = json.loads((finished / "results.json").read_text())
    assert found["final"] == whole["final"]
    assert found["gain_norm"] == whole["gain_norm"]
    assert (tmp_path / "run" / "training.png").is_file()
    with pytest.raises(GammaError, match="is at step 6 of 6: the run is finished"):
        train([*argv, "--resume"])
