"""Text as lines: UTF-8 only, with or without a byte-order mark, ended by LF or CRLF."""

from __future__ import annotations

import os
from pathlib import Path

from gamma_nlp.errors import GammaError

_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        GammaError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise GammaError(f"cannot read {path}: {error.strerror or error}") from error


def text_lines(data: bytes, name: str | os.PathLike[str]) -> list[str]:
    """A file's lines, without their ends.

    Args:
        data: The file's content.
        name: What to call it in an error.

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
