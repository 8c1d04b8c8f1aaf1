"""What happened to each item of an evaluation set, so that runs can be compared item by item.

``results.json`` says under ``items`` how each score follows from the items: which file, which
columns, and which statistic of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.files.packed import most_unpacked, too_large
from gamma_nlp.files.read import read_bytes
from gamma_nlp.files.write import write_bytes

FOLDER = "items"
IDS = "id"
STATISTICS: Mapping[str, tuple[int, ...]] = {
    "mean": (1,),
    "ratio": (1, 1),
    "f1": (1, 1),
    "matthews": (1, 1),
    "pearson": (1, 1),
    "bleu": (10,),
    "sacrebleu": (10,),
}
"""The statistics, and the width of each column that they read."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of one evaluation set.

    Attributes:
        ids: A name for each item, shape (items,), text; the same in every run.
        columns: What happened to it, by name: shape (items,), or (items, 10) for the counts that
            BLEU is made of: length of hypothesis and reference, matches and totals of n-grams for
            n from 1 to 4.
    """

    ids: np.ndarray
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Source:
    """How a score follows from items.

    Attributes:
        file: The items, relative to the run's folder.
        statistic: One of :data:`STATISTICS`.
        columns: What it reads.
    """

    file: str
    statistic: str
    columns: tuple[str, ...]


def items_file(name: str) -> str:
    """Return the file of an evaluation set's items, relative to the run's folder."""
    return f"{FOLDER}/{name}.npz"


def write_items(path: Path, items: Items) -> None:
    """Write the items of a set, compressed; the file is whole or not there.

    Raises:
        GammaError: They cannot be items: an id twice, columns of different length, nan.
    """
    _check(items, str(path))
    content = io.BytesIO()
    arrays: dict[str, Any] = {IDS: items.ids.astype(np.str_), **items.columns}
    np.savez_compressed(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def read_items(path: Path) -> Items:
    """Read what :func:`write_items`, or ``numpy.savez_compressed``, wrote.

    Raises:
        GammaError: The file is missing or cut short, or holds no items. Code in it is never run.
    """
    data = read_bytes(path)
    try:
        archive = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise GammaError(f"{path} holds one array, not the items of a set: use savez")
        most = most_unpacked(len(data))
        if sum(member.file_size for member in archive.zip.infolist()) > most:
            raise too_large(path, len(data), most)
        columns = {name: archive[name] for name in archive.files}
    except GammaError:
        raise
    except Exception as e:  # a damaged archive fails in many ways: zlib.error, MemoryError ...
        raise GammaError(f"{path} cannot be read as items (cut short?): {one_line(e)}") from e
    if IDS not in columns:
        raise GammaError(f"{path} has no array {IDS!r}, which names the items")
    items = Items(ids=columns.pop(IDS), columns=columns)
    _check(items, str(path))
    return items


def described(sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return the sources of scores as ``results.json`` has them."""
    return {
        score: {"file": one.file, "statistic": one.statistic, "columns": list(one.columns)}
        for score, one in sources.items()
    }


def _check(items: Items, name: str) -> None:
    ids = items.ids
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "UiuS":
        raise GammaError(f"{name}: {IDS!r} must be one row of names or numbers, at least one")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = listed(map(str, unique[counts > 1]))
        raise GammaError(f"{name}: ids stand there more than once: {twice}")
    for column, values in items.columns.items():
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
            raise GammaError(f"{name}: column {column!r} must hold numbers, one row an item")
        if len(values) != len(ids):
            raise GammaError(f"{name}: column {column!r} has {len(values)} rows, not {len(ids)}")
        if not np.isfinite(values).all():
            worst = ids[np.argmin(np.isfinite(values.reshape(len(ids), -1)).all(axis=1))]
            raise GammaError(f"{name}: column {column!r} is not a number at item {worst}")
