"""``study.json``: what a study compares, written before its first run and kept to from then on."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed
from gamma_nlp.files import read_json, write_json
from gamma_nlp.study.arms import Arm
from gamma_nlp.study.command import Command
from gamma_nlp.study.config import Study
from gamma_nlp.study.design import folder_name
from gamma_nlp.study.plans import Planned, write_policies
from gamma_nlp.study.recipe import Recipe
from gamma_nlp.study.run_folder import Run
from gamma_nlp.tasks.run.yaml_file import read_yaml

RECORD, SCHEMA = "study.json", 1
_PACKAGES = ("gamma_nlp", "torch", "transformers")
_OF_THE_START = ("started", "versions")
_MARGINS = ("metric", "baseline")
_MOST_DIFFERENCES = 6


def runs_of(study: Study, planned: Sequence[Planned], policies: Mapping[str, str]) -> list[Run]:
    """Return the runs of a study: all cells with the first seed, then with the second, and so on.

    So a study that stops early still has whole pairs.

    Args:
        study: The study.
        planned: Its cells.
        policies: The preset or file of each arm's policy.

    Raises:
        GammaError: Two runs would have one folder.
    """
    runs = []
    for seed in study.seeds:
        for one in planned:
            if one.same_as is not None:
                continue
            folder = study.output / "runs" / folder_name(one.cell.name, seed)
            command = study.runs.command(
                study,
                one.cell,
                policy=policies.get(one.cell.arm.name),
                weight_decay=one.weight_decay,
                seed=seed,
                folder=folder,
            )
            runs.append(Run(cell=one.cell.name, seed=seed, folder=folder, command=tuple(command)))
    return runs


def policies_of(study: Study) -> dict[str, str]:
    """Return the preset or file of each arm's policy, as the runs are given it."""
    folder = study.output / "policies"
    return {
        arm.name: str(folder / f"{arm.name}.json")
        if isinstance(arm.policy, Mapping)
        else arm.policy
        for arm in study.arms
        if arm.policy is not None
    }


def contents(study: Study, planned: Sequence[Planned], runs: Sequence[Run]) -> dict[str, Any]:
    """Return what ``study.json`` holds."""
    metric = study.metric
    return {
        "schema": SCHEMA,
        "name": study.name,
        "about": study.about,
        "config_file": str(study.file),
        "config": dict(study.content),
        "metric": {
            "scores": list(metric.scores),
            "higher_is_better": metric.higher_is_better,
            "smallest_difference": metric.smallest_difference,
            "unit": metric.unit,
            "scale": metric.scale,
        },
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "cells": [_cell(study, one) for one in planned],
        "runs": [
            {
                "cell": run.cell,
                "seed": run.seed,
                "folder": run.folder.relative_to(study.output).as_posix(),
                "command": list(run.command),
            }
            for run in runs
        ],
        "inputs": inputs(study),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _cell(study: Study, one: Planned) -> dict[str, Any]:
    cell = one.cell
    return {
        "name": cell.name,
        "arm": cell.arm.name,
        "dose": cell.dose,
        "coefficient": cell.coefficient,
        "weight_decay": one.weight_decay,
        "against": cell.against,
        "same_as": one.same_as,
        "aa": cell.aa,
        "policy": _policy_name(cell.arm),
        "set": cell.settings(study),
        "factors": cell.arm.factors,
        "plan": dict(one.plan),
    }


def inputs(study: Study) -> dict[str, Any]:
    """Return what the runs read besides the config: the recipe and the policies, whole."""
    found: dict[str, Any] = {"policies": {arm.name: _policy(arm) for arm in study.arms}}
    if isinstance(study.runs, Recipe):
        found["recipe"] = read_yaml(study.runs.file)
        found["engine"] = study.runs.engine
    else:
        assert isinstance(study.runs, Command)
        found["command"] = list(study.runs.pattern)
        found["schedule"] = study.runs.schedule
    return found


def _policy_name(arm: Arm) -> str | None:
    return f"policies/{arm.name}.json" if isinstance(arm.policy, Mapping) else arm.policy


def _policy(arm: Arm) -> Any:
    if isinstance(arm.policy, str) and Path(arm.policy).is_file():
        path = Path(arm.policy)
        return read_json(path) if path.suffix == ".json" else read_yaml(path)
    return arm.policy


def versions() -> dict[str, str]:
    """Return the versions that results depend on; each run notes more of them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what a study's folder says of it; ``None`` where there is no study.

    Raises:
        GammaError: The folder holds something else, or a record that cannot be read.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise GammaError(f"output {folder} is a file; give another folder")
    if not (folder / RECORD).exists():
        others = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
        if others:
            raise GammaError(
                f"output {folder} holds {listed(others)} and no {RECORD}, so it is no study's; "
                "give another output"
            )
        return None
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise GammaError(
            f"{folder / RECORD} is not of a study that this version can go on with; give another "
            "output"
        )
    return record


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
    where = f"{study.output} has {len(finished)} finished runs"
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
    if margins and _any_scored(finished, before["metric"]["scores"]):
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
    changed = _differences(before.get("versions", {}), now["versions"])
    what = "; ".join(changed)
    return [f"since the study began {what}: its runs may not compare"] if changed else []


def write_record(study: Study, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Write ``study.json`` and the policies that the config holds."""
    write_policies(study, study.output / "policies")
    first = {} if before is None else {key: before.get(key, now[key]) for key in _OF_THE_START}
    write_json(study.output / RECORD, {**now, **first})


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
        cell["name"]: {key: cell["plan"].get(key) for key in kept}
        for cell in record["cells"]
        if cell["name"] in names
    }


def _any_scored(runs: Sequence[Run], scores: Sequence[str]) -> bool:
    from gamma_nlp.study.metric import score_at

    for run in runs:
        try:
            for path in scores:
                score_at(run.finished() or {}, path, run.results)
        except GammaError:
            continue
        return True
    return False
