"""Run a grid of short runs in worker processes and keep each result as soon as it is ready.

A cell is a mapping that JSON can carry, such as ``{"lr": 0.1, "seed": 0}``. Its result is one line
of ``cells.jsonl``; a run that was stopped continues with the cells that have no line yet.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.workers import Answer, call_each

FILE = "cells.jsonl"
"""The first line holds the settings, each other line a cell with its result."""
LONGEST = 3600.0
"""Default time limit of a cell, in seconds."""
SHOWN = 3
"""How many reasons of failure an error quotes."""

Cell = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A cell that has been computed.

    Attributes:
        cell: The cell.
        result: What the function returned.
        seconds: Wall time of the call.
    """

    cell: dict[str, Any]
    result: Any
    seconds: float


def _print(line: str) -> None:
    print(line, flush=True)


def run_cells(
    function: Callable[..., Any],
    cells: Sequence[Cell],
    folder: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any],
    arguments: Sequence[Any] = (),
    jobs: int | None = None,
    seconds: float = LONGEST,
    report: Callable[[str], None] = _print,
) -> list[Done]:
    """Compute the cells that the folder does not hold yet; return all, in the order of ``cells``.

    A cell that fails costs only its own result; it is reported at once and again at the end. The
    same call tries it again, together with cells that were cut off. A later call may ask for more
    cells; lines of cells that it does not ask for stay in the file.

    Args:
        function: Called as ``function(cell, settings, *arguments)`` in a worker process with one
            thread. It must be a module's own function and return what JSON can carry.
        cells: No two equal.
        folder: Where ``cells.jsonl`` is; made if absent. Only one run at a time may write there.
        settings: What all cells have in common and every result depends on.
        arguments: Further arguments, on which the results do not depend: where the data are.
        jobs: Worker processes; by default 2, or 1 on a machine with one core.
        seconds: Time limit of a cell.
        report: Takes the lines about progress; by default they are printed.

    Raises:
        GammaError: The folder holds cells of other settings, cannot be read as such or cannot be
            made; two cells are equal; a worker cannot import ``function``; or some cells failed.
    """
    target = _importable(function)
    keys = [_key(cell) for cell in cells]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise GammaError(f"the cell {twice} is there twice; give each cell once")
    path = Path(folder) / FILE
    done = _open(path, settings)
    todo = [cell for cell, key in zip(cells, keys, strict=True) if key not in done]
    failed: dict[str, list[str]] = {}
    progress = _Progress(len(cells), len(todo))
    calls = [(dict(cell), dict(settings), *arguments) for cell in todo]
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for i, answer in call_each(target, calls, jobs=jobs, seconds=seconds):
            key = _key(todo[i])
            if answer.problem:
                failed.setdefault(answer.problem, []).append(key)
            else:
                done[key] = _line(todo[i], answer)
                print(json.dumps(done[key]), file=file, flush=True)
            report(progress.step(key, answer))
    if failed:
        count = sum(map(len, failed.values()))
        raise GammaError(
            f"{count} of {len(cells)} cells failed: {_reasons(failed)}. "
            f"{path} keeps the others; the same command tries these again"
        )
    return [Done(**done[key]) for key in keys]


def _importable(function: Callable[..., Any]) -> str:
    """Return the name by which a worker imports a function, checked here and now.

    Raises:
        GammaError: It is not a module's own function, or its module is the script being run.
    """
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or getattr(sys.modules[module], name, None) is not function:
        raise GammaError(
            f"a worker process cannot import {module}:{name}; define it at the top level of a "
            "module of its own"
        )
    return f"{module}:{name}"


def _reasons(failed: Mapping[str, Sequence[str]]) -> str:
    """Return each reason once, with the first cell that failed for it."""
    reasons = [
        f"{keys[0]}: {problem}" + (f" (and {len(keys) - 1} more cells like it)" if keys[1:] else "")
        for problem, keys in list(failed.items())[:SHOWN]
    ]
    more = f"; and {len(failed) - SHOWN} other reasons" if len(failed) > SHOWN else ""
    return "; ".join(reasons) + more


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)


def _line(cell: Cell, answer: Answer) -> dict[str, Any]:
    return {"cell": dict(cell), "result": answer.value, "seconds": answer.seconds}


def _open(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Read a file's cells; start a new file with the settings, cut off an incomplete last line."""
    now = json.loads(json.dumps(settings))
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if not whole:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": now}) + "\n", encoding="utf-8", newline="\n")
        except OSError as error:
            raise GammaError(
                f"{path} cannot be written ({one_line(error)}); give another output folder"
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
            f"{path} is not a file of cells that this command wrote; give another output folder"
        ) from None
    if changed:
        raise GammaError(
            f"{path} holds cells of other settings: {'; '.join(changed)}; continue with those, "
            "or give another output folder"
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
