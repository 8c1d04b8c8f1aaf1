"""What a reader should know of the runs that count, besides their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.results.run import Run, value_at
from gamma_nlp.study.results.study_file import RESULTS, Study

if TYPE_CHECKING:
    from gamma_nlp.study.results.found import Counted, Found


def chosen_later(study: Study, chosen: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return a note where the scores are not those that were planned."""
    if study.fixed and chosen and set(paths) != set(study.metric.scores):
        return [
            f"{', '.join(paths)} was chosen after the runs: the study was planned for "
            f"{', '.join(study.metric.scores)}, and its smallest difference does not apply"
        ]
    return []


def alike(found: Found) -> list[str]:
    """Return notes on scores that are equal where seeds or arms should make a difference."""
    values = {run.value for run in found.runs}
    if len(found.runs) > 1 and len(values) == 1:
        one = f"{values.pop():.4g} {found.study.metric.unit}".rstrip()
        return [f"every run scores {one}: has anything been learned, and does the metric see it?"]
    lines = list(_small(found))
    for cell in found.study.cells:
        mine = found.of(cell.name)
        if len(mine) > 1 and len({run.value for run in mine.values()}) == 1:
            lines.append(f"all {len(mine)} seeds of {cell.name} have one score: do seeds act?")
        against = found.study.base(cell)
        base = found.of(against) if against and not cell.aa else {}
        both = mine.keys() & base.keys()
        if len(both) > 1 and all(mine[seed].value == base[seed].value for seed in both):
            lines.append(
                f"{cell.name} and {against} have the same score for every seed: "
                f"{_why_alike(mine, base)}"
            )
    return lines


def _why_alike(mine: dict[int, Counted], base: dict[int, Counted]) -> str:
    groups = {run.run.results.get("groups") for run in (*mine.values(), *base.values())}
    if len(groups) == 1 and None not in groups:
        return "every parameter decays alike in both"
    return "does the option that tells them apart act?"


def strays(study: Study) -> list[str]:
    """Return a note on runs in the study's folder that it did not plan."""
    if not study.fixed:
        return []
    known = {one.folder.resolve() for one in study.planned}
    homes = {one.folder.parent for one in study.planned}
    stray = sorted(
        path.parent.name
        for home in homes
        for path in home.glob(f"*/{RESULTS}")
        if path.parent.resolve() not in known
    )
    if not stray:
        return []
    more = f" and {len(stray) - 3} more" if len(stray) > 3 else ""
    return [f"not of this study's plan, so not counted: {', '.join(stray[:3])}{more}"]


def _small(found: Found) -> Iterator[str]:
    """Yield a note on shares of 1 that are shown as points, though points are per cent."""
    metric = found.study.metric
    shares = all(abs(run.value) <= 1 for run in found.runs)
    if metric.unit == "points" and metric.scale == 1 and shares:
        yield (
            "every score lies between 0 and 1 and is shown as points with scale 1: is it a share, "
            "whose scale is 100?"
        )


def in_per_cent(runs: Sequence[Run], metric: Metric) -> bool:
    """Return whether no score is the share of 1 that its name says, in any run."""
    sizes = [abs(value) for run in runs for path in metric.scores if (value := _number(run, path))]
    return metric.scale == 100 and bool(sizes) and min(sizes) > 1


def _number(run: Run, path: str) -> float:
    value = value_at(run.results, path)
    return value if isinstance(value, (int, float)) else 0.0
