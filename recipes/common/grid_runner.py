"""A grid of short trainings: its cells spread over processes, each result kept as it comes.

A cell is a mapping that JSON can carry, such as ``{"lr": 0.1, "seed": 0}``. Its result is one line
of ``cells.jsonl``, written as soon as it is there; a run that was stopped goes on with the cells
that have no line yet.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.workers import Answer, call_each

FILE = "cells.jsonl"
"""The first line holds the settings, each other line a cell with its result."""
LONGEST = 3600.0
"""Seconds that one cell may take, unless told."""
SHOWN = 3
"""Failed cells that an error quotes."""

Cell = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A cell that has been computed.

    Attributes:
        cell: As it was given.
        result: What the function returned.
        seconds: Wall time of the call.
    """

    cell: dict[str, Any]
    result: Any
    seconds: float


def run_cells(
    function: str,
    cells: Sequence[Cell],
    folder: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any],
    arguments: Sequence[Any] = (),
    jobs: int | None = None,
    seconds: float = LONGEST,
    say: Callable[[str], None] | None = None,
) -> list[Done]:
    """Compute each cell that the folder does not hold yet; return all, in the order given.

    A cell that fails is named at once and at the end, and costs nothing but its own result. It is
    tried again when the same call is made again, as are cells that were cut off. More cells may be
    asked for in a later call; lines of cells that are not asked for stay in the file.

    Args:
        function: ``module:function`` that computes ``function(cell, settings, *arguments)`` in a
            worker process with one thread; what it returns must be fit for JSON.
        cells: No two alike.
        folder: Where ``cells.jsonl`` is; made if absent. One run at a time may write there.
        settings: What all cells have in common and every result depends on.
        arguments: More for the function, on which the results do not depend: where the data are.
        jobs: Worker processes; by default 2, or 1 on a machine with one core.
        seconds: That one cell may take.
        say: Takes the lines about progress; by default they are printed.

    Raises:
        GammaError: The folder holds cells of other settings, is not readable as such or cannot
            be made, two cells are alike, or some cells failed.
    """
    keys = [_key(cell) for cell in cells]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise GammaError(f"the cell {twice} is there twice; give each cell once")
    path = Path(folder) / FILE
    done = _open(path, settings)
    todo = [cell for cell, key in zip(cells, keys, strict=True) if key not in done]
    tell = say or _print
    failed: dict[str, list[str]] = {}
    progress = _Progress(len(cells), len(todo))
    calls = [(dict(cell), dict(settings), *arguments) for cell in todo]
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for i, answer in call_each(function, calls, jobs=jobs, seconds=seconds):
            key = _key(todo[i])
            if answer.problem:
                failed.setdefault(answer.problem, []).append(key)
            else:
                done[key] = _line(todo[i], answer)
                print(json.dumps(done[key]), file=file, flush=True)
            tell(progress.step(key, answer))
    if failed:
        count = sum(map(len, failed.values()))
        raise GammaError(
            f"{count} of {len(cells)} cells failed: {_reasons(failed)}. "
            f"{path} keeps the others; the same command tries these again"
        )
    return [Done(**done[key]) for key in keys]


def _reasons(failed: Mapping[str, Sequence[str]]) -> str:
    """What went wrong, each once, with the first cell that it happened to."""
    said = [
        f"{keys[0]}: {problem}" + (f" (and {len(keys) - 1} more cells like it)" if keys[1:] else "")
        for problem, keys in list(failed.items())[:SHOWN]
    ]
    more = f"; and {len(failed) - SHOWN} other reasons" if len(failed) > SHOWN else ""
    return "; ".join(said) + more


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)


def _line(cell: Cell, answer: Answer) -> dict[str, Any]:
    return {"cell": dict(cell), "result": answer.value, "seconds": answer.seconds}


def _print(line: str) -> None:
    print(line, flush=True)


def _open(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The cells that a file holds; a new one gets its first line, a torn last line is cut off."""
    now = json.loads(json.dumps(settings))
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if not whole:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": now}) + "\n", encoding="utf-8", newline="\n")
        except OSError as error:
            raise GammaError(
                f"{path} cannot be written ({error.strerror}); give another output folder"
            ) from None
        return {}
    try:
        before, *lines = [json.loads(line) for line in whole.splitlines()]
        found = {_key(line["cell"]): line for line in lines}
        before = before["settings"]
        changed = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GammaError(
            f"{path} is no file of cells that this command wrote; give another output folder"
        ) from None
    if changed:
        raise GammaError(
            f"{path} holds cells of other settings: {'; '.join(changed)}; go on with those, or "
            "give another output folder"
        )
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    return found


class _Progress:
    """One line per finished cell, with the time left at the speed so far."""

    def __init__(self, count: int, todo: int) -> None:
        self.count, self.todo, self.finished = count, todo, 0
        self.start = time.monotonic()

    def step(self, key: str, answer: Answer) -> str:
        self.finished += 1
        left = self.todo - self.finished
        minutes = (time.monotonic() - self.start) / self.finished * left / 60
        what = f"failed: {answer.problem}" if answer.problem else f"{answer.seconds:.1f} s"
        number = self.count - left
        return f"{number}/{self.count}  about {minutes:.1f} min left  {key}  {what}"
