"""What a checkpoint holds, file by file, written when all of it is: it is whole, or it is not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json

MANIFEST = "manifest.json"

_CHUNK = 2**22


def seal(checkpoint: Path, *, planned: bool = True) -> None:
    """Write the size and the checksum of every file of a checkpoint into it, after all of them.

    A CRC of 32 bits: it is there to find damage, not forgery, and reads faster than disks do.

    Args:
        checkpoint: Its folder.
        planned: Whether the run would have saved here; not so where it was told to stop.
    """
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "crc32": _sum(path)}
        for path in sorted(_files(checkpoint))
    }
    write_json(checkpoint / MANIFEST, {"planned": planned, "files": files})


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint says what it holds."""
    return (checkpoint / MANIFEST).is_file()


def is_planned(checkpoint: Path) -> bool:
    """Return whether a run that nobody stopped would have this checkpoint too."""
    try:
        return bool(read_json(checkpoint / MANIFEST).get("planned", True))
    except (GammaError, OSError, AttributeError):
        return True


def lost(checkpoint: Path, *, thorough: bool) -> str | None:
    """Return the first file of a sealed checkpoint that is not what was written, and why.

    Args:
        checkpoint: Its folder.
        thorough: Read every byte; else sizes alone, which is quick.
    """
    try:
        told = read_json(checkpoint / MANIFEST)
        files: Mapping[str, Mapping[str, Any]] = told["files"]
        wanted = [(name, int(one["bytes"]), str(one["crc32"])) for name, one in files.items()]
    except (GammaError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return f"{MANIFEST} is damaged"
    if not wanted:
        return f"{MANIFEST} is damaged"
    for name, size, checksum in wanted:
        path = checkpoint / name
        try:
            found = path.stat().st_size if path.is_file() else None
            if found is None:
                return f"{name} is missing"
            if found != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if thorough and _sum(path) != checksum:
                return f"{name} is damaged: its checksum is not the one it was written with"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its folders; none that is only being written."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != MANIFEST and not path.name.startswith("."):
            yield path


def _sum(path: Path) -> str:
    found = 0
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            found = zlib.crc32(part, found)
    return f"{found:08x}"
