"""The score that a study compares: where it stands in ``results.json``, which way is better."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, listed, shown
from gamma_nlp.study.design.fields import Fields

_SPELT = {"bleu": "BLEU", "sacrebleu": "sacreBLEU", "chrf": "chrF", "f1": "F1"}
_SHARES = re.compile(r"accuracy|(^|_)acc$|f1|matthews|pearson|spearman|exact_match")
_KINDS = (
    # pattern, higher is better, unit, scale
    (_SHARES, True, "points", 100.0),
    (re.compile(r"bleu"), True, "BLEU", 1.0),
    (re.compile(r"chrf"), True, "chrF", 1.0),
    (re.compile(r"loss|nll"), False, "nats", 1.0),
    (re.compile(r"perplexity|ppl"), False, "perplexity", 1.0),
)
"""Scores that tell by their name which way is better, and how they are shown."""


def spelt(score: str) -> str:
    """Return a score's name as it is written: BLEU, accuracy, pearson spearman."""
    return _SPELT.get(score, score.replace("_", " "))


class NoScore(GammaError):
    """A run's score is no number: the run failed, and others may not."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is compared.

    Attributes:
        scores: Dotted paths in ``results.json``; the metric is the mean of the scores there.
        higher_is_better: Which way is better.
        unit: What a difference is measured in.
        scale: What a score is multiplied by to be shown in that unit.
        smallest_difference: The smallest difference that matters, in that unit, or ``None``.
    """

    scores: tuple[str, ...]
    higher_is_better: bool
    unit: str
    scale: float
    smallest_difference: float | None

    def check(self, fields: Fields, final: Sequence[str]) -> None:
        """Refuse a score that ``final`` of no results will have.

        Args:
            fields: The config, for the error.
            final: The names that it will have.
        """
        for path in self.scores:
            name = path.removeprefix("final.")
            if name != path and name not in final:
                hint = close_to(name, final) or f"; there are {listed(final, 12)}"
                raise fields.error("metric", f"no run will have the score {name!r}{hint}")

    @property
    def name(self) -> str:
        """The last words of its paths."""
        last = (path.rpartition(".")[2].removeprefix("eval_") for path in self.scores)
        text = ", ".join(dict.fromkeys(spelt(one) for one in last))
        return f"{text}, mean of {len(self.scores)}" if len(self.scores) > 1 else text

    def value(self, results: Mapping[str, Any], file: Path) -> float:
        """Return the metric of one run, as it is shown.

        Args:
            results: What ``results.json`` holds.
            file: The file, for errors.

        Raises:
            NoScore: A score is no finite number.
            GammaError: A score is missing, or is not what its name says.
        """
        return self.mean({path: score_at(results, path, file) for path in self.scores}, file)

    def mean(self, scores: Mapping[str, float], file: Path) -> float:
        """Return the mean of the scores of one run, by their paths, as it is shown.

        Raises:
            GammaError: A score is not what its name says.
        """
        for path, score in scores.items():
            if self.scale == 100 and _SHARES.search(_last(path)) and abs(score) > 1:
                raise GammaError(
                    f"{file}: {path} is {score:g}, no share of 1, so it is in per cent already; "
                    f"write `metric: {{score: {path}, scale: 1}}`"
                )
        return self.scale * math.fsum(scores.values()) / len(scores)

    def shown(self, value: float) -> str:
        """Return a value of the metric in its unit."""
        return f"{value:.2f} {self.unit}" if self.scale == 100 else f"{value:.4g} {self.unit}"


def score_at(results: Mapping[str, Any], path: str, file: Path) -> float:
    """Return the score at a dotted path; a name without a dot may also stand in ``final``.

    Raises:
        NoScore: It is no finite number.
        GammaError: It is missing.
    """
    scores = dict(_scores(results))
    if path not in scores and "." not in path:
        path = f"final.{path}"
    if path not in scores:
        hint = close_to(path, scores) or f"; its scores are {listed(scores, 12)}"
        raise GammaError(f"{file} has no {path!r}, which is the metric{hint}")
    score = scores[path]
    if not abs(score) <= sys.float_info.max:
        raise NoScore(f"{file}: {path} is {shown(score)}, which is no score")
    return score


def _scores(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in results.items():
        if isinstance(value, Mapping):
            yield from _scores(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def read_metric(fields: Fields, *, recipe: bool) -> Metric:
    """Read the metric of a config.

    Args:
        fields: The whole config.
        recipe: Whether its runs are those of a recipe, whose scores are in ``final``.
    """
    if not fields.has("metric"):
        raise fields.error(
            None, "metric is missing; give a score of results.json, such as `metric: eval_accuracy`"
        )
    given = fields.data["metric"]
    own = fields if not isinstance(given, Mapping) else fields.mapping("metric", "{score: wer}")
    key = "metric"
    if own is not fields:
        key = "score"
        own.only(("score", "higher_is_better", "unit", "scale"))
        given = own.data.get("score")
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise own.error(
            key, f"expected the name of a score, or a list of names, got {shown(given)}"
        )
    try:
        kind = kind_of_all(names)
    except GammaError as error:
        raise own.error(key, str(error)) from None
    if kind is None and "higher_is_better" not in own.data:
        example = f"{{score: {names[0]}, higher_is_better: false, unit: nats}}"
        raise own.error(
            key, f"say which way {names[0]!r} is better, for example `metric: {example}`"
        )
    higher, unit, scale = kind or (True, "", 1.0)
    own_fields = own if own is not fields else Fields(fields.file, {}, fields.keys)
    higher = own_fields.flag("higher_is_better", higher)
    scale = own_fields.number("scale") if own_fields.has("scale") else scale
    if scale <= 0:
        raise own_fields.error("scale", f"expected a number above 0, got {scale:g}")
    unit = own_fields.text("unit", ("points" if unit == "points" else unit) or "units")
    return Metric(
        scores=tuple(f"final.{n}" if recipe and "." not in n else n for n in names),
        higher_is_better=higher,
        unit=unit,
        scale=scale,
        smallest_difference=_smallest(fields),
    )


def _smallest(fields: Fields) -> float | None:
    if not fields.has("smallest_difference"):
        return None
    value = fields.number("smallest_difference")
    if value <= 0:
        raise fields.error(
            "smallest_difference",
            f"expected a number above 0, got {value:g}: the smallest difference that you care about"
            ", in the unit that is shown (points of accuracy, BLEU)",
        )
    return float(value)


def kind_of(name: str) -> tuple[bool, str, float] | None:
    """Return what a score's name tells: whether more is better, its unit, its scale."""
    for pattern, higher, unit, scale in _KINDS:
        if pattern.search(_last(name)):
            return higher, unit, scale
    return None


def kind_of_all(names: Sequence[str]) -> tuple[bool, str, float] | None:
    """Return what the names of scores tell whose mean is compared.

    Raises:
        GammaError: One is there twice, or they are of different kinds.
    """
    if twice := [name for name in names if names.count(name) > 1]:
        raise GammaError(f"{twice[0]!r} is there twice; leave one out")
    first, *others = names
    if odd := [name for name in others if kind_of(name) != kind_of(first)]:
        raise GammaError(
            f"the mean of {first} and {odd[0]} means nothing: they are of different kinds"
        )
    return kind_of(first)


def _last(path: str) -> str:
    return path.rpartition(".")[2].lower()
