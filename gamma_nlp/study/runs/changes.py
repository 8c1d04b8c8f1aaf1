"""What changed since a study began: it may grow, and what was settled before its runs stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.config import Study
from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.results.study_file import read_study
from gamma_nlp.study.runs.folder import Run, has_score
from gamma_nlp.study.statistics.sentence import count

_MARGINS = ("metric", "baseline")
_MOST_DIFFERENCES = 6


def check_same(study: Study, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a study that has become another one; arms, doses and seeds may be added.

    Args:
        study: The study.
        before: What its folder's record holds.
        now: What the record would hold.

    Raises:
        GammaError: Something changed after the first run; each difference is named.
    """
    recorded = _recorded(study, before)
    finished = [run for run in recorded if run.results.exists()]
    begun = [run for run in recorded if run.results.exists() or run.can_resume()]
    if not begun:
        return
    where = f"{study.output} has {count(len(finished), 'finished run')}"
    if len(begun) > len(finished):
        where += f" and {len(begun) - len(finished)} with checkpoints"
    gone = [
        *(f"seed {seed}" for seed in before["seeds"] if seed not in now["seeds"]),
        *(f"cell {name!r}" for name in _names(before) if name not in _names(now)),
    ]
    if gone:
        raise GammaError(
            f"{where}, and the config no longer has {', '.join(gone[:_MOST_DIFFERENCES])}: put it "
            "back (a study may grow, not shrink), or give another output"
        )
    margins = _differences(*({key: one[key] for key in _MARGINS} for one in (before, now)))
    if margins and _any_scored(finished, read_study(study.output).metric):
        raise GammaError(
            f"{where}, and {'; '.join(margins)}: what is compared is settled before the first run, "
            "else the result could choose it; put it back, or give another output"
        )
    for what, kept in (("had other settings", _settings), ("were planned otherwise", _plans)):
        if changed := _differences(kept(before, now), kept(now, before)):
            more = len(changed) - _MOST_DIFFERENCES
            raise GammaError(
                f"{where} that {what}: {'; '.join(changed[:_MOST_DIFFERENCES])}"
                f"{f'; and {more} more' if more > 0 else ''}; put it back, or give another output"
            )


def version_notes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a warning where packages changed since the study began."""
    changed = _differences(before.get("versions") or {}, now["versions"])
    what = "; ".join(changed)
    return [f"since the study began {what}: its runs may not compare"] if changed else []


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before == now:
        return []
    from gamma_nlp.tasks.run.identity import differences  # which imports torch

    return differences(before, now)


def _recorded(study: Study, record: Mapping[str, Any]) -> list[Run]:
    return [
        Run(cell=run["cell"], seed=run["seed"], folder=study.output / run["folder"], command=())
        for run in record["runs"]
    ]


def _names(record: Mapping[str, Any]) -> list[str]:
    return [cell["name"] for cell in record["cells"]]


def _settings(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the config and its files say of the arms that both records have."""
    config, inputs = record["config"], dict(record["inputs"])
    arms = {cell["arm"] for cell in record["cells"]} & {cell["arm"] for cell in other["cells"]}
    policies, own = inputs.pop("policies"), config.get("arms") or {}
    found = {
        arm: {"policy": policies.get(arm), "set": (own.get(arm) or {}).get("set")}
        for arm in sorted(arms)
    }
    again = config.get("a_a") if other["config"].get("a_a") else None
    return {**inputs, "set": config.get("set"), "a_a": again, "arms": found}


def _plans(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was planned for the cells that both records have."""
    names = set(_names(other))
    kept = ("steps", "data", "weight_decay", "groups")
    return {
        cell["name"]: {key: (cell.get("plan") or {}).get(key) for key in kept}
        for cell in record["cells"]
        if cell["name"] in names
    }


def _any_scored(runs: Sequence[Run], metric: Metric) -> bool:
    """Return whether any run has the metric; one that none has may be put right."""
    return any(has_score(run, metric) for run in runs)
