"""Files and folders that are written whole or not at all, and text that is read line by line.

In this order: text, JSON and lines into one file; a whole output folder, which replaces an older
one at the end; bytes and UTF-8 lines out of a file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line

MANIFEST = "manifest.json"
"""The file that marks an output folder as written by this package."""

_BOM = b"\xef\xbb\xbf"


def write_text(path: Path, content: str) -> None:
    """Write a text file, UTF-8 with LF; an error leaves the old file as it was, and no draft."""
    # The process id keeps several processes from writing into one another's draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(content, encoding="utf-8", newline="\n")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and make its folder; what JSON does not know is written as text."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, UTF-8 with LF, and make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def check_target(target: Path, source: Path | None, *, overwrite: bool) -> None:
    """Refuse an output folder that must not be written, before any work is done.

    Only a folder that holds a manifest, so one of ours, may be replaced.

    Raises:
        GammaError: It exists and ``overwrite`` is off, is not ours, or holds the source.
    """
    if source is not None and target.resolve() in (source.resolve(), *source.resolve().parents):
        raise GammaError(f"output {target} holds the input {source}; give another output folder")
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise GammaError(f"output {target} is not a folder; give another name")
    if not overwrite:
        raise GammaError(f"output {target} exists; add --overwrite to replace it, or give another")
    if any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise GammaError(
            f"output {target} has no {MANIFEST}, so it was not written by this command and is "
            "not replaced; give another output folder"
        )


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


def checksums(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of every file in a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        GammaError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise GammaError(f"cannot read {path}: {one_line(error)}") from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, unpacked first if its name ends in ``.gz``.

    Raises:
        GammaError: It cannot be read or unpacked, or a byte is not UTF-8.
    """
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise GammaError(f"cannot read {path}: {one_line(error)}") from error
    return text_lines(data, path)


def text_lines(data: bytes, name: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a file's content, without their ends.

    Args:
        data: The content.
        name: What to call the file in an error.

    Raises:
        GammaError: A byte is not UTF-8; the message names the file, the line and the byte.
    """
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (len(_BOM) if data.startswith(_BOM) else 0)
        line = data.count(b"\n", 0, at) + 1  # f-strings before 3.12 take no backslash
        raise GammaError(
            f"{name}:{line}: byte 0x{data[at]:02x} at offset {at} is not "
            "UTF-8; convert the file, for example with iconv -f latin1 -t utf-8"
        ) from error
    # Not str.splitlines: sentences may hold other characters that it takes for line ends.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
