"""What each run's scores are made of, item by item, and whether they are made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.study.results.found import Counted, Found, relative
from gamma_nlp.study.statistics.metrics import Statistic, statistic
from gamma_nlp.study.statistics.sentence import count
from gamma_nlp.tasks.run.items import Items, read_items

_OF_COUNTS = 1e-4
_OF_BLEU = 0.0051
_OF_NUMBERS = 2e-3
"""How far a score may be from that of its items: by its last digit; where numbers are averaged also
by float32, and by batches that are averaged with their last one, which is smaller."""


@dataclass(frozen=True, kw_only=True)
class ItemSums:
    """What is summed over the items of one evaluation set, in the order of their ids."""

    ids: np.ndarray
    statistic: Statistic
    sums: np.ndarray


Sums = Mapping[Path, Mapping[str, ItemSums]]
"""Of each run by its ``results.json``, of each score by its path."""


def read_sums(found: Found) -> tuple[Found, Sums, list[str]]:
    """Return the study without runs whose items contradict them, the sums, and notes.

    A run whose items give another score, or are other items than most runs have, is left out.
    One without items stays: what is known of its items is then left out of the intervals.
    """
    sums: dict[Path, dict[str, ItemSums]] = {run.run.file: {} for run in found.runs}
    wrong: dict[Path, str] = {}
    notes: list[str] = []
    for path in found.study.metric.scores:
        absent = []
        for run in found.runs:
            source = (run.run.results.get("items") or {}).get(path)
            if source is None:
                absent.append(run)
                continue
            file = run.run.planned.folder / source["file"]
            try:
                items = read_items(file)
            except GammaError as error:
                notes.append(f"{error}; the run counts, without its items")
                continue
            try:
                sums[run.run.file][path] = _sums(run, path, file, items)
            except GammaError as error:
                wrong.setdefault(run.run.file, str(error))
        if absent:
            notes.append(_absent(found, path, absent))
        wrong |= _other_items(found, path, sums, wrong)
    folder = found.study.folder
    wrong = {file: relative(line, folder) for file, line in wrong.items()}
    return found.without(wrong), sums, [relative(note, folder) for note in notes]


def _sums(run: Counted, path: str, file: Path, items: Items) -> ItemSums:
    source = run.run.results["items"][path]
    columns = []
    for column in source["columns"]:
        if column not in items.columns:
            raise GammaError(f"{file} has no column {column!r}{close_to(column, items.columns)}")
        columns.append(items.columns[column])
    try:
        made = statistic(source["statistic"])
        sums = made.item_sums(columns)
    except GammaError as error:
        raise GammaError(f"{run.run.file}: items.{path}: {error}") from None
    ids = items.ids.astype(np.str_)
    order = np.argsort(ids)
    told, counted = run.scores[path], float(made.score(sums.sum(axis=0)))
    if not abs(told - counted) <= _near(made, columns, told):
        raise GammaError(
            f"{run.run.file}: {path} is {told:.6g}, and its items in {file.name} give {counted:.6g}"
        )
    return ItemSums(ids=ids[order], statistic=made, sums=sums[order])


def _near(made: Statistic, columns: Sequence[np.ndarray], told: float) -> float:
    if made.name.endswith("bleu"):
        return _OF_BLEU
    if all(column.dtype.kind in "biu" for column in columns):
        return _OF_COUNTS
    return _OF_NUMBERS * (abs(told) + 0.5)


def _absent(found: Found, path: str, runs: list[Counted]) -> str:
    who = (
        "no run"
        if len(runs) == len(found.runs)
        else f"not every run ({len(runs)} of {len(found.runs)} not)"
    )
    return f"{who} has items for {path}: where they lack, intervals are over seeds alone"


def _other_items(found: Found, path: str, sums: Sums, wrong: Mapping[Path, str]) -> dict[Path, str]:
    """Return the runs whose items are not those that most runs have."""
    of = {
        run.run.file: sums[run.run.file][path]
        for run in found.runs
        if path in sums[run.run.file] and run.run.file not in wrong
    }
    if not of:
        return {}
    keys = {file: (len(one.ids), one.ids.tobytes()) for file, one in of.items()}
    most, _ = Counter(keys.values()).most_common(1)[0]
    usual = next(one for file, one in of.items() if keys[file] == most)
    return {
        file: f"{file}: items of {path}: {_difference(one.ids, usual.ids)}"
        for file, one in of.items()
        if keys[file] != most
    }


def _difference(ids: np.ndarray, usual: np.ndarray) -> str:
    more, fewer = np.setdiff1d(ids, usual), np.setdiff1d(usual, ids)
    some = " and ".join(
        f"{len(which)} {what} ({which[0]!s}...)"
        for which, what in ((more, "that the others lack"), (fewer, "fewer than the others"))
        if len(which)
    )
    return f"{count(len(ids), 'id')}, {len(usual)} in the others: {some}"
