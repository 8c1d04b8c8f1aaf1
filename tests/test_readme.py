"""Every README's code runs as printed, and every command is one that works.

Blocks run in a folder that holds small stand-ins under the names that READMEs use
(``support/stand_ins.py``). A command that is too long even then is checked word for word: its
program, its files and its options exist.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gamma_nlp.cli.main import main as gamma_nlp_command
from tests.support.paths import ROOT
from tests.support.readmes import blocks, commands, name, readmes
from tests.support.stand_ins import furnish

WITH_CODE = [path for path in readmes() if any(b.language == "python" for b in blocks(path))]
COMMANDS = [command for path in readmes() for command in commands(path)]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A folder with the stand-ins, and what each placeholder of a command stands for."""

    folder: Path
    places: dict[str, Path]

    def fill(self, words: Sequence[str]) -> list[str]:
        """Words with their placeholders replaced."""
        return [str(self.places.get(word, word)) for word in words]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    return Desk(folder=folder, places=furnish(folder))


@pytest.fixture(autouse=True)
def _at_the_desk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(desk.folder)
    with torch.random.fork_rng(), warnings.catch_warnings():
        # What other libraries say to a user is no fault of a README; a name of ours that is old is.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=DeprecationWarning, module="readme")
        yield


@pytest.mark.parametrize("path", WITH_CODE, ids=name)
def test_code_runs_as_printed(path: Path) -> None:
    space: dict[str, object] = {"__name__": "readme"}
    for block in blocks(path):
        if block.language == "python":
            text = "\n" * (block.line - 1) + block.text  # errors name the README's own line
            exec(compile(text, str(path), "exec"), space)


def run_gamma_nlp(words: Sequence[str]) -> None:
    assert gamma_nlp_command(list(words)) == 0


def test_the_first_table_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    shown = blocks(ROOT / "README.md")[1].text
    run_gamma_nlp(commands(ROOT / "README.md")[0].words[1:])
    assert capsys.readouterr().out.startswith(shown)
