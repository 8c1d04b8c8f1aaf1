"""An output folder that is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from gamma_nlp.errors import GammaError

MANIFEST = "manifest.json"


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
    """Give a draft folder beside ``target`` that takes its place at the end.

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
        raise GammaError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for path in (draft, old):
            shutil.rmtree(path, ignore_errors=True)


def write_lines(path: Path, lines: Iterator[str] | list[str]) -> None:
    """Write text lines: UTF-8, LF, on every system; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def checksums(folder: Path) -> Mapping[str, str]:
    """SHA-256 of every file in a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
