"""A kind of input, and what the kinds share: how files are made, and code that must not run."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.fuzz.inputs import Files, read


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of input.

    Attributes:
        good: Makes sets of whole files, in turn the base of an input.
        read: Reads a folder that holds such files, possibly damaged.
        share: How much of a fuzz run it gets, beside the others.
        hostile: Inputs that are tried as they are, besides.
    """

    good: Callable[[], tuple[dict[str, bytes], ...]]
    read: Callable[[Path], None]
    share: float = 1.0
    hostile: Callable[[], tuple[Files, ...]] = lambda: ()


class Touch:
    """Runs a command where somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch ran",)


def dump(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


def torch_bytes(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def made(make: Callable[[Path], object]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return read(Path(folder))


def of(*files: dict[str, bytes]) -> Callable[[], tuple[dict[str, bytes], ...]]:
    return lambda: files
