"""Bytes, text, lines and JSON out of a file; an error names the file and the line."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line, shown
from gamma_nlp.files.packed import unpacked

_BOM = b"\xef\xbb\xbf"
_PACKED = {
    b"\x1f\x8b": "packed with gzip",
    b"PK\x03\x04": "a zip file",
    b"\xfd7zXZ": "packed with xz",
    b"BZh": "packed with bzip2",
    b"%PDF": "a PDF",
}


_MOST_SHORT_LINES = 2_000_000
"""Lines of a text whose lines are hardly any: each takes some 60 bytes, whatever it holds."""

_SHORT = 16
"""Bytes of such a line, on average; a sentence has more."""


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        GammaError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise GammaError(f"cannot read {path}: {one_line(error)}") from error


def read_text(path: Path) -> str:
    """Return a file's text, UTF-8.

    Raises:
        GammaError: It cannot be read, or a byte is not UTF-8.
    """
    return _decoded(read_bytes(path), path)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, unpacked first if its name ends in ``.gz``.

    Raises:
        GammaError: It cannot be read or unpacked, or a byte is not UTF-8.
    """
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = unpacked(packed, len(data), path)
        except (OSError, EOFError, zlib.error) as error:
            raise GammaError(f"cannot read {path}: {one_line(error)}") from error
    return text_lines(data, path)


def text_lines(data: bytes, name: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a file's content, without their ends.

    Args:
        data: The content.
        name: What to call the file in an error.

    Raises:
        GammaError: A byte is not UTF-8; the message names the file, the line and the byte. Or it
            is almost nothing but line ends.
    """
    if len(data) > _MOST_SHORT_LINES:
        count = data.count(b"\n")
        if count > _MOST_SHORT_LINES and len(data) < _SHORT * count:
            raise GammaError(
                f"{name}: {count:,} lines of {len(data) / count:.1f} bytes on average are no "
                f"sentences; expected at least {_SHORT} bytes where there are more than "
                f"{_MOST_SHORT_LINES:,} lines: is it the right file? If so, split it"
            )
    # Not str.splitlines: sentences may hold other characters that it takes for line ends.
    text = _decoded(data, name)
    returns = "\r" in text
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if returns else lines


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        GammaError: It cannot be read, is no JSON, or gives a key twice in one object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise GammaError(f"{path}: the key {shown(twice)} is there twice; leave one out")
        return found

    try:
        return json.loads(read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise GammaError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise GammaError(f"{path}: not valid JSON: nested too deeply") from None
    except GammaError:
        raise
    except ValueError as error:  # a number with thousands of digits
        raise GammaError(f"{path}: not valid JSON: {one_line(error)}") from None


def _decoded(data: bytes, name: str | os.PathLike[str]) -> str:
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (len(_BOM) if data.startswith(_BOM) else 0)
        line = data.count(b"\n", 0, at) + 1  # f-strings before 3.12 take no backslash
        raise GammaError(
            f"{name}:{line}: byte 0x{data[at]:02x} at offset {at} is not UTF-8; {_instead(data)}"
        ) from error
    if 4 * data.count(0) > len(data):  # plain letters in UTF-16 are UTF-8 as well, with zeros
        raise GammaError(
            f"{name}: every second byte or so is 0, so this is no UTF-8 text; {_instead(data)}"
        )
    return text


def _instead(data: bytes) -> str:
    """Return what to do with a file that is not UTF-8, by how it starts."""
    for start, what in _PACKED.items():
        if data.startswith(start):
            return f"it is {what}: unpack it, or give the text that it was made from"
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * data.count(0) > len(data)
    code = "utf-16" if wide else "latin1"
    return f"convert the file, for example with iconv -f {code} -t utf-8"
