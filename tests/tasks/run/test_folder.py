"""A run's folder is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import claim_folder


def test_a_finished_run_without_checkpoints_is_not_written_over(tmp_path: Path) -> None:
    claim_folder(tmp_path, {"task": "sst2"}, resume=False)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(GammaError, match="nothing to resume"):
        claim_folder(tmp_path, {"task": "sst2"}, resume=True)


def test_resume_in_an_empty_folder_starts_from_the_beginning(tmp_path: Path) -> None:
    assert not claim_folder(tmp_path / "new", {"task": "sst2"}, resume=True)
