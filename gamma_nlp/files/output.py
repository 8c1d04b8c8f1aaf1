"""What stands where a command will write: only what this package wrote is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from gamma_nlp.errors import GammaError

MANIFEST = "manifest.json"
"""The file that marks an output folder as written by this package."""


def check_file(path: Path, marks: Iterable[bytes], writer: str) -> None:
    """Refuse a file that is there and not ours, before any work is done.

    Args:
        path: The file to be written.
        marks: What files of ours have near their start: one of these.
        writer: The command that writes them.

    Raises:
        GammaError: It has none of the marks, or is a folder.
    """
    if path.is_dir():
        raise GammaError(f"-o {path} is a folder; give the name of a file")
    if not path.exists():
        return
    with path.open("rb") as file:
        start = file.read(4096)
    if not any(mark in start for mark in marks):
        raise GammaError(
            f"{path} is there and was not written by {writer}, so it is not replaced; "
            "give another name with -o"
        )


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


def checksums(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of every file in a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
