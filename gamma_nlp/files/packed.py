"""Packed files, counted while they are unpacked: a small file cannot fill memory."""

from __future__ import annotations

import os
from typing import Any

from gamma_nlp.errors import GammaError

MOST_RATIO = 10
"""How many times its own size a packed file may grow to, beyond :data:`SPARE`."""

SPARE = 32 * 2**20
"""Bytes that every packed file may grow to: small texts repeat themselves."""


def most_unpacked(size: int) -> int:
    """Return how many bytes a packed file of ``size`` bytes may grow to."""
    return SPARE + MOST_RATIO * size


def too_large(name: str | os.PathLike[str], size: int, most: int) -> GammaError:
    """Return the error for a packed file that grows beyond its limit."""
    return GammaError(
        f"{name}: its {size:,} bytes unpack to more than {most:,}, which no real data does; if it "
        "is what you mean, unpack it and give the unpacked file"
    )


def unpacked(stream: Any, size: int, name: str | os.PathLike[str]) -> bytes:
    """Return what a stream unpacks, counted while it is read.

    Args:
        stream: An open file of ``gzip`` or the like.
        size: Bytes of the packed file.
        name: What to call the file in an error.

    Raises:
        GammaError: It is larger than data of this size can be.
    """
    most = most_unpacked(size)
    data: bytes = stream.read(most + 1)
    if len(data) > most:
        raise too_large(name, size, most)
    return data
