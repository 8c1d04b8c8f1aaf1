"""Read the golden files: the category of every gain of a small model, as written by hand.

A file of ``tests/golden`` holds rows ``pattern  category  kind  offset`` under comments that
cite the lines of the model's code that settle them. In a pattern ``*`` stands for exactly one
component of a dotted parameter name. The first pattern that matches a parameter decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tests.support.paths import GOLDEN

CATEGORIES = ("branch_last", "branch_inner", "shortcut", "head")
KINDS = ("layer_norm", "rms_norm", "batch_norm", "group_norm", "qk_norm", "layer_scale")

_CITATION = re.compile(r"# (\w+\.py):(\d+) `(.+)`")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a golden file; `where` is its ``file:line``, for messages."""

    pattern: str
    category: str
    kind: str
    offset: int
    where: str

    def matches(self, name: str) -> bool:
        """Whether the parameter called `name` is this row's."""
        parts, wanted = name.split("."), self.pattern.split(".")
        return len(parts) == len(wanted) and all(
            want in ("*", part) for part, want in zip(parts, wanted, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A quoted line of transformers' source."""

    file: str
    line: int
    code: str
    where: str


def golden_path(family: str) -> Path:
    """The golden file of a key of ``FAMILIES``."""
    return GOLDEN / f"{family}.txt"


def read_golden(path: Path) -> list[Row]:
    """The rows of a golden file, in order.

    Raises:
        ValueError: A row has not four fields, or an unknown category, kind or offset.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        where = f"{path.name}:{number}"
        if len(fields) != 4:
            raise ValueError(f"{where}: {len(fields)} fields, not pattern, category, kind, offset")
        pattern, category, kind, offset = fields
        if category not in CATEGORIES or kind not in KINDS or offset not in ("0", "1"):
            raise ValueError(f"{where}: unknown category, kind or offset in {line!r}")
        rows.append(
            Row(pattern=pattern, category=category, kind=kind, offset=int(offset), where=where)
        )
    return rows


def read_header(path: Path) -> dict[str, str]:
    """The values of ``# family:``, ``# class:`` and ``# transformers``."""
    pattern = re.compile(r"^# (family|class|transformers):? (\S+)$", re.MULTILINE)
    return dict(pattern.findall(path.read_text(encoding="utf-8")))


def read_citations(path: Path) -> list[Citation]:
    """Every quoted source line of a golden file."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if match := _CITATION.fullmatch(line):
            file, cited, code = match.groups()
            where = f"{path.name}:{number}"
            found.append(Citation(file=file, line=int(cited), code=code, where=where))
    return found


def expected(model: nn.Module, rows: Sequence[Row]) -> dict[str, tuple[str, str, int]]:
    """``{parameter name: (category, kind, offset)}`` for every gain of `model`.

    Names and order are those of ``model.named_parameters()``; a parameter that no row matches
    is no gain.
    """
    result = {}
    for name, _ in model.named_parameters():
        row = next((row for row in rows if row.matches(name)), None)
        if row is not None:
            result[name] = (row.category, row.kind, row.offset)
    return result
