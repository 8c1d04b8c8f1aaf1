"""One run at a time in a folder, and no kill leaves the folder locked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.lock import held_alone, take

HOLD = """
import sys, time
from gamma_nlp.tasks.run.folder import claimed
with claimed(sys.argv[1], resume=False) as claim:
    print("held", flush=True)
    time.sleep(60)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_folder_in_use_is_refused_and_a_kill_gives_it_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    try:
        pattern = rf"is in use: process {process.pid} trains there; wait for it, or give another"
        with pytest.raises(GammaError, match=pattern), claimed(folder, resume=False):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    with claimed(folder, resume=False) as claim:
        claim.write([])
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_start_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="late"), claimed(tmp_path / "run", resume=False):
        raise ValueError("late")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_holder_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    opened, first = os.open, [True]

    def just_before_it_goes(*args: object, **kwargs: object) -> int:
        found = opened(*args, **kwargs)  # type: ignore[arg-type]
        if first.pop() if first else False:
            path.unlink()
        return found

    monkeypatch.setattr(os, "open", just_before_it_goes)
    held = take(path)
    assert held is not None and os.path.samestat(os.fstat(held), path.stat())
    os.close(held)


def test_a_lock_is_removed_after_use(tmp_path: Path) -> None:
    with held_alone(tmp_path / "lock") as got:
        assert got and int((tmp_path / "lock").read_text()) == os.getpid()
        with held_alone(tmp_path / "lock") as again:
            assert not again
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    for name in (".run.json.12", ".results.json.7", ".mine.12", ".averaged", "notes"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".averaged.31").mkdir()
    (tmp_path / ".averaged.30.old").mkdir()
    (tmp_path / ".averaged.30.old" / "config.json").write_text("{}")
    with claimed(tmp_path, resume=False) as claim:
        claim.write([])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".averaged", ".mine.12", "averaged", "notes", "run.json"]
    assert (tmp_path / "averaged" / "config.json").is_file()
