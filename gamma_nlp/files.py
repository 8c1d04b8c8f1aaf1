"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file and make its folder; what JSON does not know is written as text."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_text(path: Path, content: str) -> None:
    """Write a text file, UTF-8 with LF; an error leaves what was there and no draft behind."""
    # The process id keeps several processes from writing into one another's draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(content, encoding="utf-8", newline="\n")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
