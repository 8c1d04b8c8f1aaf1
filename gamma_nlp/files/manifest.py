"""What a checkpoint holds, file by file, written when all of it is: it is whole, or it is not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json

MANIFEST = "manifest.json"
SUM = "crc32"
"""Where a file of ours keeps the checksum of the rest of it."""

_CHUNK = 2**22
_DAMAGED = f"{MANIFEST} is damaged"


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a manifest says."""

    planned: bool
    files: tuple[tuple[str, int, str], ...]
    """Name, size and checksum of each."""


def seal(checkpoint: Path, *, planned: bool = True) -> None:
    """Write the size and the checksum of every file of a checkpoint into it, after all of them.

    A CRC of 32 bits: it is there to find damage, not forgery, and reads faster than disks do. The
    manifest has one of its own.

    Args:
        checkpoint: Its folder.
        planned: Whether the run would have saved here; not so where it was told to stop.
    """
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "crc32": _sum(path)}
        for path in sorted(_files(checkpoint))
    }
    told = {"planned": planned, "files": files}
    write_json(checkpoint / MANIFEST, {**told, SUM: sum_of(told)})


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint says what it holds."""
    return (checkpoint / MANIFEST).is_file()


def is_planned(checkpoint: Path) -> bool:
    """Return whether a run that nobody stopped would have this checkpoint too."""
    told = _read(checkpoint)
    return told is None or told.planned


def lost(
    checkpoint: Path, *, thorough: bool, among: Callable[[str], bool] = lambda name: True
) -> str | None:
    """Return the first file of a sealed checkpoint that is not what was written, and why.

    Args:
        checkpoint: Its folder.
        thorough: Read every byte; else sizes alone, which is quick.
        among: Which files count, by name.
    """
    told = _read(checkpoint)
    if told is None:
        return _DAMAGED
    for name, size, checksum in told.files:
        if not among(name):
            continue
        path = checkpoint / name
        try:
            if not path.is_file():
                return f"{name} {_instead(path)}"
            if (found := path.stat().st_size) != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if thorough and _sum(path) != checksum:
                return f"{name} is damaged: its checksum is not the one it was written with"
        except OSError as error:
            return f"{name} cannot be read ({one_line(error)})"
    return None


def tells_of_model(name: str) -> bool:
    """Return whether a file of a checkpoint says what its model is: weights, config, step."""
    of_model = name in ("config.json", "trainer_state.json")
    return of_model or name.startswith(("model", "pytorch_model"))


def need_whole(checkpoint: Path, purpose: str, instead: str) -> None:
    """Check every byte of a checkpoint, if it is sealed.

    Args:
        checkpoint: Its folder.
        purpose: What it is for, after ``cannot``.
        instead: What to do without it.

    Raises:
        GammaError: A file is not what was written.
    """
    if is_sealed(checkpoint) and (why := lost(checkpoint, thorough=True)):
        raise GammaError(f"cannot {purpose} {checkpoint}: {why}; {instead}")


def _read(checkpoint: Path) -> _Told | None:
    """Return what a checkpoint's manifest says; ``None`` where it is damaged."""
    try:
        told = read_json(checkpoint / MANIFEST)
        own = told.pop(SUM, None)
        # Without a checksum of its own it is of an older version; then all else must be as it was.
        if told.keys() != {"planned", "files"} or own not in (None, sum_of(told)):
            return None
        files: Mapping[str, Mapping[str, Any]] = told["files"]
        found = tuple((name, int(one["bytes"]), str(one["crc32"])) for name, one in files.items())
        return _Told(planned=bool(told["planned"]), files=found) if found else None
    except (GammaError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _instead(path: Path) -> str:
    """Return what stands where a file should."""
    if path.is_dir():
        return "is a folder"
    return "is a link to nothing" if path.is_symlink() else "is missing"


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


def sum_of(told: Mapping[str, Any]) -> str:
    """Return a checksum of what a JSON file holds, however it is laid out."""
    return f"{zlib.crc32(json.dumps(told, sort_keys=True).encode()):08x}"
