"""Runs of the installed fairseq for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gamma_nlp.fairseq import commands
from tests.support.fairseq_runs import Session, make_data, quiet, session


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        commands.prepare("fairseq_cli.preprocess")
    return make_data(tmp_path_factory.mktemp("fairseq"))


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Session]:
    def begin(*words: object) -> Session:
        return session(data, tmp_path / "run", *words)

    return begin


@pytest.fixture
def flat_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --fp16 put its flat tensor where the parameters are, also where that is not a GPU."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
