"""What a stage is made of: parts, each of which runs in a process of its own and gives rows."""

from __future__ import annotations

import importlib
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, MissingExtra, is_installed, one_line

Note = Callable[[Any], None]
"""Takes a row of the benchmarks' table."""


class Skip(Exception):
    """A part that cannot run here; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line asks for.

    Attributes:
        device: ``cuda`` or ``cpu``.
        quick: Tiny sizes; nothing is judged.
        data: A folder that scripts/prepare_iwslt14 wrote; ``None``: made-up text.
        work: A folder for what need not be kept.
        ends: When the part must have ended, by :func:`time.monotonic`.
    """

    device: str
    quick: bool
    data: str | None
    work: str
    ends: float = float("inf")

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of a stage.

    Attributes:
        name: As the report calls it.
        module: The module here that runs it: its ``run(settings, note, *words)`` notes rows.
        words: What this part asks of the module.
    """

    name: str
    module: str
    words: tuple[str, ...] = ()

    def run(self, settings: Settings, note: Note) -> None:
        """Run it in this process."""
        importlib.import_module(self.module).run(settings, note, *self.words)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Parts that answer one question.

    Attributes:
        name: As ``--only`` takes it.
        about: What it answers, in a few words.
        seconds: Its share of the time, where the whole has eight minutes.
        parts: In the order in which they run.
        compare: Makes further rows out of those of all parts.
        tests: Whether rows are tests, of which the report lists those that did not pass.
    """

    name: str
    about: str
    seconds: float
    parts: tuple[Part, ...]
    compare: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    tests: bool = False


def need(*packages: str) -> None:
    """Raise :class:`Skip` where a package is not installed."""
    for package in packages:
        if not is_installed(package):
            raise Skip(f"{package} is not installed")


def perform(part: Part, settings: Settings, path: Path) -> int:
    """Run a part, and append a line of JSON for each of its rows; return the exit code.

    The last line says how it ended. Without it the process was killed, or died.
    """
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def note(**content: Any) -> None:
            file.write(json.dumps(content, default=str) + "\n")

        def note_row(row: Any) -> None:
            if settings.quick and "test" not in row.figures:
                row.passed = None  # tiny sizes show nothing but that it works
            note(row=asdict(row))

        try:
            part.run(settings, note_row)
        except (Skip, MissingExtra) as reason:
            note(state="skipped", why=one_line(reason))
        except GammaError as error:
            note(state="failed", why=one_line(error))
            return 1
        except Exception as error:
            traceback.print_exc()
            note(state="failed", why=f"{type(error).__name__}: {one_line(error)}")
            return 1
        else:
            note(state="done", why="")
    return 0


def fresh_words(part: Part, settings: Settings, path: Path) -> list[str]:
    """Return the hidden options with which another process of this command does the same."""
    return ["--part", json.dumps([asdict(part), asdict(settings), os.fspath(path)])]


def perform_words(text: str) -> int:
    """Do what :func:`fresh_words` asks for."""
    part, settings, path = json.loads(text)
    part["words"] = tuple(part["words"])
    return perform(Part(**part), Settings(**settings), Path(path))
