"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gamma_nlp.errors import GammaError, one_line


def write_text(path: Path, content: str) -> None:
    """Write a text file, UTF-8 with the line ends of ``content``; see :func:`write_bytes`."""
    write_bytes(path, content.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; an error leaves the old one as it was, no draft, and names the file."""
    with _draft(path) as draft:
        draft.write_bytes(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and make its folder; what JSON does not know is written as text."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, UTF-8 with LF, and make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a draft to write into bit by bit; at the end it takes the place of ``path``.

    An error inside leaves ``path`` as it was and no draft behind.
    """
    with _draft(path) as draft, draft.open("wb") as file:
        yield file


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a draft folder next to ``target``; at the end it takes the place of ``target``.

    An error inside leaves ``target`` as it was and no draft behind.

    Raises:
        GammaError: The folder cannot be written.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        draft.mkdir(parents=True)
        yield draft
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except OSError as error:
        raise GammaError(f"cannot write {target}: {one_line(error)}") from error
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for path in (draft, old):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    # The process id keeps several processes from writing into one another's draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        if error.filename in (None, os.fspath(draft)):  # a full device names none
            error.filename = os.fspath(path)
        raise
    finally:
        draft.unlink(missing_ok=True)
