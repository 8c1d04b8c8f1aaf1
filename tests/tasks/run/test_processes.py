"""Processes on machines of their own disks agree, or all of them end with one reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import claimed
from gamma_nlp.tasks.run.processes import all_or_none, decided
from tests.support.torchrun import two_processes
from tests.support.whole_checkpoint import whole_checkpoint


def test_alone_a_process_decides_for_itself() -> None:
    assert decided(lambda: 3, main_process=False) == 3
    all_or_none(None)
    with pytest.raises(GammaError, match="mine"):
        all_or_none("mine")


def test_both_processes_do_as_the_main_one_says(tmp_path: Path) -> None:
    for rank in (0, 1):
        whole_checkpoint(tmp_path / f"both-{rank}", 3)
        (tmp_path / f"both-{rank}" / "run.json").write_text('{"parts": []}')
    whole_checkpoint(tmp_path / "both-1", 6)  # a leftover that the main process does not have
    whole_checkpoint(tmp_path / "one-0", 3)
    (tmp_path / "one-0" / "run.json").write_text('{"parts": []}')
    whole_checkpoint(tmp_path / "other-1", 3)
    two_processes(__file__, str(tmp_path))
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for both in zip(*(one.values() for one in answers), strict=True):
        assert both[0] == both[1]
    assert answers[0]["both"] == "step 3"
    assert "which another of the run's machines does not have" in answers[0]["one"]
    assert "holds no checkpoint, so there is nothing to resume" in answers[0]["other"]
    assert answers[0]["new"] == "step 0"
    assert not (tmp_path / "other-0").exists() and not (tmp_path / "one-1").exists()


def _answer(folder: Path, resume: bool, main: bool) -> str:
    try:
        with claimed(folder, resume=resume, main_process=main) as claim:
            return f"step {claim.step}"
    except GammaError as error:
        return str(error).replace(str(folder.parent), "").replace("-1", "-0")


if __name__ == "__main__":
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, place = dist.get_rank(), Path(sys.argv[1])
    found = {
        name: _answer(place / f"{name}-{rank}", name != "new", rank == 0)
        for name in ("both", "one", "other", "new")
    }
    (place / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
