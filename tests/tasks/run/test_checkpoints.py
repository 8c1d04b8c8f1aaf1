"""A checkpoint is continued from whole or not at all, and a full disk leaves no half of one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from gamma_nlp.errors import GammaError
from gamma_nlp.files.manifest import MANIFEST, seal
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.train import finetune
from gamma_nlp.tasks.run.checkpoints import checkpoints, choose
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


def _flip(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        (folder / name).write_bytes(content)

    return harm


def _zero_tail(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-64] + bytes(64))

    return harm


FILES = (
    *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json"),
    *("training_args.bin", "trainer_state.json"),
)
HARMS = {
    "cut": (_cut, "bytes of|was not finished"),
    "gone": (_drop, "is missing"),
    "a bit": (_flip, "is damaged: its checksum|was not finished"),
    "zeroed tail": (_zero_tail, "is damaged: its checksum|was not finished"),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(
    name: str, harm: str, finished: Path, tmp_path: Path
) -> None:
    damage, reason = HARMS[harm]
    shutil.copytree(finished, tmp_path / "run")
    assert choose(tmp_path / "run").last == tmp_path / "run" / "checkpoint-6"
    damage(name)(tmp_path / "run" / "checkpoint-6")
    choice = choose(tmp_path / "run")
    assert choice.last == tmp_path / "run" / "checkpoint-3"
    (line,) = choice.passed_over
    assert re.match(rf"checkpoint-6: .*({reason})", line)
    assert name in line


@pytest.mark.parametrize("harm", [_cut, _drop, _flip])
def test_a_damaged_manifest_is_damage(harm: Any, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    harm(MANIFEST)(tmp_path / "run" / "checkpoint-6")
    found = choose(tmp_path / "run")
    assert found.last == tmp_path / "run" / "checkpoint-3" and found.passed_over


def test_a_checkpoint_of_a_run_without_manifests_is_checked_as_far_as_it_goes(
    finished: Path, tmp_path: Path
) -> None:
    for damage, reason in (
        (lambda f: None, None),
        (_cut("optimizer.pt"), r"optimizer\.pt is damaged \(it was cut off\)"),
        (_cut("model.safetensors"), r"model\.safetensors is damaged"),
        (_drop("scheduler.pt"), r"lacks 'scheduler\.pt' \(save_only_model"),
        (lambda f: (f / "trainer_state.json").write_text("[1]"), "is of step None, not 6"),
        (lambda f: (f / "trainer_state.json").write_text("{}"), "is of step None, not 6"),
    ):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(finished, tmp_path / "run")
        for step in (3, 6):
            (tmp_path / "run" / f"checkpoint-{step}" / MANIFEST).unlink()
        damage(tmp_path / "run" / "checkpoint-6")
        choice = choose(tmp_path / "run")
        if reason is None:
            assert choice.last is not None and choice.last.name == "checkpoint-6"
        else:
            assert choice.last is not None and choice.last.name == "checkpoint-3"
            assert re.search(reason, choice.passed_over[0])


def test_a_damaged_run_goes_on_from_the_checkpoint_before_and_ends_the_same(
    finished: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = experiment(tmp_path, data, **FIXED)
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    _flip("optimizer.pt")(tmp_path / "run" / "checkpoint-6")
    (tmp_path / "run" / "checkpoint-6" / "left_behind").write_text("of the damaged one")
    found = train([*argv, "--resume"])
    assert "checkpoint-6: optimizer.pt is damaged" in caplog.text
    assert "this run continues from checkpoint-3" in caplog.text
    whole = json.loads((finished / "results.json").read_text())
    assert found["final"] == whole["final"] and found["gain_norm"] == whole["gain_norm"]
    assert choose(tmp_path / "run").passed_over == ()
    assert not (tmp_path / "run" / "checkpoint-6" / "left_behind").exists()


def test_where_every_checkpoint_is_damaged_each_is_named(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **FIXED)
    shutil.copytree(finished, tmp_path / "run")
    _flip("optimizer.pt")(tmp_path / "run" / "checkpoint-6")
    _drop("rng_state.pth")(tmp_path / "run" / "checkpoint-3")
    with pytest.raises(GammaError, match="no checkpoint to continue from") as caught:
        train([*argv, "--resume"])
    assert "checkpoint-6: optimizer.pt is damaged" in str(caught.value)
    assert "checkpoint-3: rng_state.pth is missing" in str(caught.value)


def test_a_clock_that_was_set_back_deletes_no_new_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = experiment(
        tmp_path, data, **FIXED, num_train_epochs=4, save_total_limit=2, eval_strategy="no"
    )
    save = Trainer._save_checkpoint

    def back(self: Any, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        folder = tmp_path / "run" / f"checkpoint-{self.state.global_step}"
        os.utime(folder, (10**9 - self.state.global_step * 100,) * 2)

    monkeypatch.setattr(Trainer, "_save_checkpoint", back)
    train(argv)
    assert [path.name for path in checkpoints(tmp_path / "run")] == [
        "checkpoint-9", "checkpoint-12",
    ]  # fmt: skip


def test_what_only_loading_finds_is_one_line_too(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    argv = experiment(tmp_path, data, **FIXED, num_train_epochs=3)
    shutil.copytree(finished, tmp_path / "run")
    torch.save({}, tmp_path / "run" / "checkpoint-6" / "optimizer.pt")
    seal(tmp_path / "run" / "checkpoint-6")
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
