"""A run's ``results.json``, and the scores in it.

Nothing is averaged here. A file that cannot be used is an error that names the file and the key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, shown
from gamma_nlp.study.results.json_reader import Reader, read_object
from gamma_nlp.study.results.study_file import Planned

_NO_SCORES = {
    *("seed", "items", "history", "curves", "dose", "gain_norm", "settings", "versions"),
    *("hardware", "data", "parts", "policy", "steps", "planned_steps", "world_size", "parameters"),
    *("weight_decay", "sum_of_learning_rates", "padding_share", "best", "step", "epoch"),
    *("padding", "shapes"),
}
_NO_SCORE_ENDS = ("_seconds", "_per_second")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: where it belongs, and its results as read."""

    planned: Planned
    results: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """Its ``results.json``."""
        return self.planned.results


def read_results(file: Path) -> Mapping[str, Any]:
    """Return a run's results, once the keys that comparisons rest on have their shape.

    Raises:
        GammaError: The file is cut short, or a key is of another shape.
    """
    top = read_object(file)
    top.whole("seed")
    for key in ("items", "data", "versions"):
        top.object(key, None)
    for key in ("groups", "task", "precision"):
        top.text(key, None)
    for key in ("steps", "planned_steps"):
        top.whole(key, None)
    for key in ("weight_decay", "sum_of_learning_rates"):
        top.number(key, None)
    policy = top.values.get("policy")
    if isinstance(policy, Mapping):
        own = Reader(file, policy, "policy")
        own.text("name", None), own.text("mode", None)
    else:
        top.text("policy", None)
    for name, one in (top.object("items", {})).items():
        item = Reader(file, one, f"items.{name}")
        item.text("file"), item.text("statistic"), item.texts("columns")
    return top.values


def score_paths(results: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths of all scores in a run's results."""
    return [
        path
        for path in _numbers(results)
        if not _NO_SCORES & {path.partition(".")[0], path.rpartition(".")[2]}
        and not path.endswith(_NO_SCORE_ENDS)
    ]


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            if prefix or key not in _NO_SCORES:
                yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}"


def value_at(results: Mapping[str, Any], path: str) -> object:
    """Return what stands at a dotted path, or None; names may hold dots themselves."""
    if path in results:
        return results[path]
    for key, value in results.items():
        if path.startswith(f"{key}.") and isinstance(value, Mapping):
            found = value_at(value, path[len(key) + 1 :])
            if found is not None:
                return found
    return None


def score(run: Run, path: str) -> float:
    """Return a score of a run.

    Raises:
        GammaError: It has none at this path, or it is no finite number.
    """
    value = value_at(run.results, path)
    if value is None:
        raise GammaError(f"{run.file}: {path} is missing{close_to(path, score_paths(run.results))}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise GammaError(f"{run.file}: {path} must be a number, not {shown(value)}")
    if not abs(value) <= sys.float_info.max:
        raise GammaError(f"{run.file}: {path} is {shown(value)}, which is no score")
    return float(value)


def full_paths(metric: Sequence[str], runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the dotted paths that a metric means: a name in ``final``, or a path itself.

    Raises:
        GammaError: No run has such a score; the message names those that there are.
    """
    known = dict.fromkeys(path for run in runs for path in score_paths(run.results))
    found = []
    for name in metric:
        wanted = (name, f"final.{name}", f"final.eval_{name}", f"scores.{name}")
        path = next((one for one in wanted if any(_has(run, one) for run in runs)), None)
        if path is None:
            near = close_to(name, [*known, *(one.removeprefix("final.") for one in known)])
            there = ", ".join(list(known)[:8]) + (" ..." if len(known) > 8 else "")
            raise GammaError(
                f"no run has the score {name!r}{near or '; give one of those that there are'}: "
                f"{there or 'none'}"
            )
        found.append(path)
    return tuple(found)


def _has(run: Run, path: str) -> bool:
    value = value_at(run.results, path)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
