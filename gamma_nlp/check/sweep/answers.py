"""Keep the answers of a sweep in a file, so that one that was stopped goes on where it ended.

The first line says what the answers depend on: the check, the version of transformers, and every
source file of this package. A file with another first line is begun anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from gamma_nlp import workers
from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_lines
from gamma_nlp.workers import Answer

Call = tuple[str, str]
"""A model type and a class."""


def answered(
    function: str,
    calls: Sequence[Call],
    seconds: float,
    jobs: int | None,
    resume: Path | None,
) -> Iterator[Answer]:
    """Return the answers in the order of the calls, those in ``resume`` without a call.

    Args:
        function: What a worker calls: ``module:function``.
        calls: Model types and classes.
        seconds: Time limit for one call.
        jobs: Number of worker processes.
        resume: The file; ``None`` keeps nothing. What was cut off is not kept.

    Raises:
        GammaError: The file is another program's.
    """
    if resume is None:
        return workers.call_all(function, calls, jobs=jobs, seconds=seconds)
    header = _header(function)
    known = _read(resume, header)
    todo = [call for call in calls if call not in known]
    fresh = workers.call_each(function, todo, jobs=jobs, seconds=seconds)
    rows = [header, *({"call": c, "answer": asdict(a)} for c, a in known.items())]
    resume.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return _merged(calls, todo, known, fresh, resume)


def _merged(
    calls: Sequence[Call],
    todo: Sequence[Call],
    known: dict[Call, Answer],
    fresh: Generator[tuple[int, Answer], None, None],
    path: Path,
) -> Iterator[Answer]:
    with contextlib.closing(fresh), path.open("a", encoding="utf-8") as file:
        for call in calls:
            while call not in known:
                number, answer = next(fresh)
                known[todo[number]] = answer
                if not answer.cut:
                    row = {"call": todo[number], "answer": asdict(answer)}
                    print(json.dumps(row), file=file, flush=True)
            yield known[call]


def _read(path: Path, header: dict[str, str]) -> dict[Call, Answer]:
    """Return the answers of a file that belongs to this check; half a last line is left out."""
    if not path.exists():
        return {}
    lines = read_lines(path)
    rows = [row for row in map(_row, lines) if row is not None]
    if lines and not (rows and rows[0].keys() == header.keys()):
        raise GammaError(f"--resume {path} is no file of answers, and is not written over")
    if not rows or rows[0] != header:
        return {}
    return dict(found for found in map(_answer, rows[1:]) if found is not None)


def _answer(row: dict[str, Any]) -> tuple[Call, Answer] | None:
    """Return a call and its answer; ``None`` for a damaged row, whose call is made again."""
    call, answer = row.get("call"), row.get("answer")
    match call:
        case [str(kind), str(name)]:
            pass
        case _:
            return None
    try:
        return (kind, name), Answer(**(answer or {}))
    except TypeError:  # fields of another release, or none
        return None


def _row(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _header(function: str) -> dict[str, str]:
    import transformers

    digest = hashlib.sha256()
    package = Path(str(resources.files("gamma_nlp")))
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".ini", ".yaml"):
            digest.update(path.read_bytes())
    return {
        "check": function,
        "transformers": str(transformers.__version__),
        "sources": digest.hexdigest()[:16],
    }
