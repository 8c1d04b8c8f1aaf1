"""``run.json``: what makes a run this run, and its parts, with a checksum of both.

The learning rates of the parts that were, and so the doses in the results, follow from it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.files.manifest import SUM, sum_of
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json
from gamma_nlp.tasks.run.identity import PLAN

RECORD = "run.json"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what a run is, whole or not at all."""
    write_json(folder / RECORD, {**record, SUM: sum_of(record)})


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a folder notes of its run.

    Raises:
        GammaError: It notes nothing, or not what a run has written.
    """
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or not record:
        raise GammaError("it is of no run")
    own = record.pop(SUM, None)
    if own is not None and own != sum_of(record):
        raise GammaError("it was changed: its checksum is not the one it was written with")
    parts = record.get("parts", [])
    # Without a checksum it is of an older version, or was written by hand.
    needed = ("from_step",) if own is not None else ("from_step", *PLAN)
    if not isinstance(parts, list) or not all(_is_part(part, needed) for part in parts):
        raise GammaError("its parts are not those of a run")
    return record


def _is_part(part: Any, needed: tuple[str, ...]) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("from_step"), int)
        and all(isinstance(part.get(name), (int, float)) for name in needed)
    )
