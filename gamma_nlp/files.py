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
    # The process id keeps several processes from writing into one another's draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
