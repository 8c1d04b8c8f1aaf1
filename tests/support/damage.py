"""Damages of a file, as disks, kills and people make them; each changes what the file holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

Damage = Callable[[Path], None]


def content(change: Callable[[bytes], bytes]) -> Damage:
    """A damage of a file's bytes."""

    def damage(file: Path) -> None:
        file.write_bytes(change(file.read_bytes()))

    return damage


def flipped(place: float) -> Damage:
    """One bit is another, at this share of the file."""

    def flip(data: bytes) -> bytes:
        found = bytearray(data)
        found[round(place * (len(data) - 1))] ^= 4
        return bytes(found)

    return content(flip)


def replaced_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replaced_by_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "nowhere")


def replaced_by_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


DAMAGES: dict[str, Damage] = {
    "deleted": lambda file: file.unlink(),
    "cut in half": content(lambda data: data[: len(data) // 2]),
    "end lost": content(lambda data: data[:-2]),
    "emptied": content(lambda data: b""),
    "tail zeroed": content(lambda data: data[:-16] + bytes(16)),
    "all zeroed": content(lambda data: bytes(len(data))),
    "first bit": flipped(0),
    "middle bit": flipped(0.5),
    "last bit": flipped(1),
    "longer": content(lambda data: data + b"\0"),
    "twice": content(lambda data: data + data),
    "a folder": replaced_by_folder,
    "a link to nothing": replaced_by_link,
    "a link to itself": replaced_by_loop,
}


@contextlib.contextmanager
def damaged(file: Path, damage: Damage) -> Iterator[None]:
    """Damage a file, and mend it again."""
    held = file.read_bytes()
    damage(file)
    try:
        yield
    finally:
        if file.is_dir():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
        file.write_bytes(held)
