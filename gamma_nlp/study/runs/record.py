"""``study.json``: what a study compares, written before its first run and kept to from then on."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed
from gamma_nlp.files.read import read_json
from gamma_nlp.files.write import write_json
from gamma_nlp.study.design.arms import Arm
from gamma_nlp.study.design.cells import folder_name
from gamma_nlp.study.design.command import Command
from gamma_nlp.study.design.config import Study
from gamma_nlp.study.design.plans import Planned, write_policies
from gamma_nlp.study.design.recipe import Recipe
from gamma_nlp.study.results.json_reader import Reader
from gamma_nlp.study.results.study_file import STUDY, read_study
from gamma_nlp.study.runs.folder import Run
from gamma_nlp.tasks.run.versions import versions
from gamma_nlp.tasks.run.yaml_file import read_yaml

SCHEMA = 1
_PACKAGES = ("gamma_nlp", "torch", "transformers")
_OF_THE_START = ("started", "versions")


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
        "versions": versions(_PACKAGES),
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


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what a study's folder says of it; ``None`` where there is no study.

    Raises:
        GammaError: The folder holds something else, or a record that cannot be read.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise GammaError(f"output {folder} is a file; give another folder")
    if not (folder / STUDY).exists():
        others = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
        if others:
            raise GammaError(
                f"output {folder} holds {listed(others)} and no {STUDY}, so it is no study's; "
                "give another output"
            )
        return None
    record = read_json(folder / STUDY)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise GammaError(
            f"{folder / STUDY} is not of a study that this version can go on with; give another "
            "output"
        )
    try:
        _check_shape(folder, record)
    except GammaError as error:
        raise GammaError(f"{error}; put it back, or give another output") from None
    return record


def _check_shape(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuse a record that was edited into what no study writes."""
    read_study(folder)
    top = Reader(folder / STUDY, record)
    top.get("seeds", list, "a list of seeds")
    top.object("versions", {})
    Reader(top.file, top.object("inputs"), "inputs").object("policies")
    config = Reader(top.file, top.object("config"), "config")
    arms = Reader(top.file, config.object("arms", {}), "config.arms")
    for name in arms.values:
        arms.object(name, {})


def write_record(study: Study, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Write ``study.json`` and the policies that the config holds."""
    write_policies(study, study.output / "policies")
    first = {} if before is None else {key: before.get(key, now[key]) for key in _OF_THE_START}
    write_json(study.output / STUDY, {**now, **first})
