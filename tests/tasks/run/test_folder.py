"""A run's folder is never overwritten, and a start that fails leaves it as it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.signals import Terminated
from tests.support.whole_checkpoint import whole_checkpoint


def begin(folder: Path, *, resume: bool = False, **identity: Any) -> None:
    """A run that starts and writes nothing further."""
    with claimed(folder, resume=resume) as claim:
        claim.agree(**identity)
        claim.write([{"from_step": claim.step}])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_finished_run_without_checkpoints_is_not_written_over(tmp_path: Path) -> None:
    begin(tmp_path, task="sst2")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(GammaError, match="nothing to resume"):
        begin(tmp_path, task="sst2", resume=True)


def test_resume_with_nothing_to_resume_does_not_start_anew(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="holds no checkpoint, so there is nothing to resume; lea"):
        begin(tmp_path / "new", task="sst2", resume=True)
    assert not (tmp_path / "new").exists()
    begin(tmp_path / "run", task="sst2")
    with pytest.raises(GammaError, match=r"--resume: .*run holds no checkpoint"):
        begin(tmp_path / "run", task="sst2", resume=True)
    (tmp_path / "run" / "checkpoint-3").mkdir()
    with pytest.raises(GammaError, match=r"no checkpoint to continue from \(checkpoint-3: it was"):
        begin(tmp_path / "run", task="sst2", resume=True)


def test_each_setting_that_differs_is_named_with_what_the_run_had(tmp_path: Path) -> None:
    was: dict[str, Any] = {"learning_rate": 1e-3, "policy": {"head": 0.0, "name": "none"}}
    begin(tmp_path, **was, seed=1)
    whole_checkpoint(tmp_path, 3)
    record = (tmp_path / "run.json").read_bytes()
    with pytest.raises(GammaError) as caught:
        begin(tmp_path, resume=True, learning_rate=2e-3, policy={"head": 1.0, "name": "x"}, seed=1)
    for part in ("learning_rate was 0.001 and is 0.002", "policy.head was 0.0 and is 1.0"):
        assert part in str(caught.value)
    assert "seed" not in str(caught.value)
    assert (tmp_path / "run.json").read_bytes() == record


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="late"), claimed(tmp_path / "a/b", resume=False) as claim:
        claim.write([])
        (tmp_path / "a/b/logs").mkdir()
        raise ValueError("late")
    assert not list(tmp_path.iterdir())


def test_a_start_that_fails_leaves_a_folder_as_it_was(tmp_path: Path) -> None:
    begin(tmp_path, task="sst2")
    whole_checkpoint(tmp_path, 3)
    before, record = files(tmp_path), (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match="late"), claimed(tmp_path, resume=True) as claim:
        claim.agree(task="sst2")
        claim.write([{"from_step": 0}, {"from_step": 3}])
        (tmp_path / "gain_table.json").write_text("{}")
        raise ValueError("late")
    assert files(tmp_path) == before
    assert json.loads((tmp_path / "run.json").read_bytes()) == json.loads(record)


def test_what_a_run_wrote_after_its_first_step_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="late"), claimed(tmp_path / "run", resume=False) as claim:
        claim.write([])
        claim.trainer = SimpleNamespace(state=SimpleNamespace(global_step=1))
        raise ValueError("late")
    assert files(tmp_path / "run") == ["run.json"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_an_interrupted_run_says_how_to_go_on(kind: type[BaseException], tmp_path: Path) -> None:
    def interrupted(step: int) -> str:
        with pytest.raises(kind) as caught, claimed(tmp_path / "run", resume=False) as claim:
            claim.write([])
            if step:
                claim.trainer = SimpleNamespace(state=SimpleNamespace(global_step=step))
            if step == 7:
                whole_checkpoint(tmp_path / "run", 5)
            raise kind
        return str(caught.value)

    assert interrupted(0) == "interrupted before the first step; nothing was written"
    assert "at step 2, before the first checkpoint: there is nothing to --resume" in interrupted(2)
    assert "at step 7; the same command with --resume continues from checkpoint-5" in interrupted(7)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for name in ("file/run", "x" * 300):
        with pytest.raises(GammaError, match=r"output_dir .* cannot be (used|written): "):
            begin(tmp_path / name)
    with pytest.raises(GammaError, match="file is a file; give a folder"):
        begin(tmp_path / "file")
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["run.json", "gain_table.json", "training.png", "averaged"])
def test_a_file_that_a_run_would_write_over_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    begin(tmp_path, task="sst2")
    (tmp_path / "gain_table.json").write_text("of a run that left no checkpoint")
    begin(tmp_path, task="sst2")
    (tmp_path / "run.json").unlink()
    (tmp_path / "gain_table.json").unlink()
    (tmp_path / name).write_text('{"of": "another program"}')
    with pytest.raises(GammaError, match=f"holds '{name}', which this run would write over"):
        begin(tmp_path, task="sst2")
    assert (tmp_path / name).read_text() == '{"of": "another program"}'
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("parts", [3, [1], [{"to_step": 3}], {"from_step": 0}])
def test_a_record_that_is_none_is_not_resumed(parts: Any, tmp_path: Path) -> None:
    begin(tmp_path, task="sst2")
    whole_checkpoint(tmp_path, 3)
    (tmp_path / "run.json").write_text(json.dumps({"task": "sst2", "parts": parts}))
    with pytest.raises(GammaError, match=r"no readable run\.json"):
        begin(tmp_path, task="sst2", resume=True)


def test_a_link_to_nothing_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(GammaError, match="run is a link to nothing; give a folder"):
        begin(tmp_path / "run")
