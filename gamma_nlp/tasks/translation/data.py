"""The splits of a prepared folder as token ids, with what a translation is scored against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_bytes, text_lines
from gamma_nlp.tasks.translation.text import TranslationText


@dataclass(frozen=True, kw_only=True)
class References:
    """The target side of a split: tokens, and the text as it was written (``None`` where lost)."""

    tokens: Sequence[str]
    plain: Sequence[str] | None


class PairData(Dataset[dict[str, Any]]):
    """Pairs of token ids, ``input_ids`` and ``labels``; four bytes a token.

    Attributes:
        source: Ids of each source sentence, ended by the end token.
        target: As ``source``.
        references: What to score translations against.
    """

    def __init__(
        self,
        source: Sequence[Sequence[int]],
        target: Sequence[Sequence[int]],
        references: References,
    ) -> None:
        self.source = [np.asarray(ids, dtype=np.int32) for ids in source]
        self.target = [np.asarray(ids, dtype=np.int32) for ids in target]
        self.references = references

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.source[index], "labels": self.target[index]}

    @property
    def lengths(self) -> tuple[list[int], list[int]]:
        """Return the number of tokens of each source and of each target."""
        return [len(ids) for ids in self.source], [len(ids) for ids in self.target]


def load_splits(folder: str | os.PathLike[str], text: TranslationText) -> dict[str, PairData]:
    """Read all splits of a prepared folder: ``train``, ``valid`` and every ``test*``.

    Raises:
        GammaError: A file is missing, or the two sides of a split differ in length.
    """
    path = Path(folder).expanduser()
    found = (file.name.removesuffix(f".{text.target_language}") for file in path.glob("test*"))
    tests = sorted({name for name in found if (path / f"{name}.{text.target_language}").is_file()})
    return {name: _split(path, name, text) for name in ("train", "valid", *tests)}


def _split(folder: Path, name: str, text: TranslationText) -> PairData:
    files = [folder / f"{name}.{text.source_language}", folder / f"{name}.{text.target_language}"]
    source, target = (_lines(file) for file in files)
    _same_length(files[0], source, files[1], target)
    if not source:
        raise GammaError(f"{files[0]} is empty; prepare the folder again, or remove this test set")
    written = folder / "tokens" / files[1].name
    tokens = _lines(written)
    _same_length(files[1], target, written, tokens)
    raw, plain = folder / "raw" / files[1].name, None
    if raw.exists():
        plain = _lines(raw)
        _same_length(files[1], target, raw, plain)
    return PairData(
        text.encode_source(source),
        text.encode_target(target),
        References(tokens=tokens, plain=plain),
    )


def _lines(path: Path) -> list[str]:
    return text_lines(read_bytes(path), path)


def _same_length(one: Path, first: list[str], other: Path, second: list[str]) -> None:
    if len(first) != len(second):
        raise GammaError(
            f"{one} has {len(first)} lines, but {other} has {len(second)}; prepare the folder again"
        )
