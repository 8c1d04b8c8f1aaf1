"""Plan the cells of a study before anything runs: weight decay, doses, and which are the same.

The questions are answered in one other process: it imports torch and transformers once, and a
crash there costs an error message and not the study.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp import workers
from gamma_nlp.errors import GammaError
from gamma_nlp.files.write import write_json
from gamma_nlp.study.design.cells import Cell
from gamma_nlp.study.design.command import Command
from gamma_nlp.study.design.config import Study
from gamma_nlp.study.design.recipe import ENGINES, Recipe

SMALL = 0.01
"""A dose below which arms cannot differ."""

_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A cell with its plan.

    Attributes:
        cell: The cell.
        weight_decay: The coefficient of its runs, where it is known.
        plan: What is known of its runs; empty for a command without a schedule.
        same_as: The cell whose runs are its runs as well, or ``None``.
        on_gpu: Whether its runs use a GPU, where there is one.
        picture: Its model as an SVG, where that was asked for and can be.
    """

    cell: Cell
    weight_decay: float | None
    plan: Mapping[str, Any]
    same_as: str | None = None
    on_gpu: bool = True
    picture: str | None = None

    @property
    def largest_dose(self) -> float | None:
        """The largest dose of its gains or, without gains, of its weights; ``None``: unknown."""
        told = [part["dose"] for part in self.plan.get("dose", {}).values()]
        doses = [dose for one in told for dose in (one if isinstance(one, list) else [one])]
        if not doses:
            doses = [self.plan.get("dose_of_weights")]
        known = [dose for dose in doses if dose is not None]
        return max(known) if len(known) == len(doses) else None


def plan(study: Study, cells: Sequence[Cell], *, picture: bool = False) -> list[Planned]:
    """Plan every cell.

    Args:
        study: The study.
        cells: Its cells.
        picture: Draw the model of the first.

    Raises:
        GammaError: A policy or a setting cannot be used; names the arm.
    """
    with tempfile.TemporaryDirectory() as drafts:
        policies = write_policies(study, Path(drafts))
        questions = _questions(study, cells, policies, picture)
        answers = _ask(study, [question for _, question in questions], [n for n, _ in questions])
    if isinstance(study.runs, Recipe):
        found = answers[-len(cells) :]
        for answer_of_cell in found:
            study.metric.check(study.fields, answer_of_cell["final"])
        return _without_repeats(study, [_planned(c, f) for c, f in zip(cells, found, strict=True)])
    schedule = answers[-1] if _needs_schedule(study) else None
    return [_planned_command(study, cell, schedule) for cell in cells]


def write_policies(study: Study, folder: Path) -> dict[str, str]:
    """Return the preset or file of each arm's policy; policies that the config holds are written.

    Args:
        study: The study.
        folder: Where to write them.
    """
    found = {}
    for arm in study.arms:
        if isinstance(arm.policy, Mapping):
            file = folder / f"{arm.name}.json"
            write_json(file, arm.policy)
            found[arm.name] = str(file)
        elif arm.policy is not None:
            found[arm.name] = arm.policy
    return found


def _needs_schedule(study: Study) -> bool:
    return isinstance(study.runs, Command) and study.runs.schedule is not None


def _questions(
    study: Study, cells: Sequence[Cell], policies: Mapping[str, str], picture: bool
) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Return what to ask, and the place in the config that an answer's problem is about."""
    asked: list[tuple[tuple[str, ...], list[Any]]] = [
        (("arms", arm, "policy"), ["policy", source]) for arm, source in policies.items()
    ]
    if isinstance(study.runs, Recipe):
        offline = os.environ.get("HF_HUB_OFFLINE", "")
        for number, cell in enumerate(cells):
            words = study.runs.words(study, cell, policies.get(cell.arm.name))
            where = ("arms", cell.arm.name)
            asked.append(
                (where, ["recipe", study.runs.engine, words, offline, picture and number == 0])
            )
    elif _needs_schedule(study):
        asked.append((("schedule",), ["schedule", study.runs.schedule, list(study.doses)]))
    return asked


def _ask(study: Study, questions: list[list[Any]], places: list[tuple[str, ...]]) -> list[Any]:
    found = []
    answers = workers.call_all(f"{__name__}:answer", questions, jobs=1, seconds=_SECONDS)
    for place, question, given in zip(places, questions, answers, strict=True):
        if given.problem:
            raise _error(study, place, question, given.problem)
        found.append(given.value)
    return found


def _error(
    study: Study, place: tuple[str, ...], question: Sequence[Any], problem: str
) -> GammaError:
    """Return the error at the place in the config that a problem is about, as it is typed there."""
    fields = study.fields
    if question[0] == "policy" and "/" in str(question[1]):
        problem = problem.replace(str(question[1]), Path(question[1]).name)
    if question[0] == "recipe":
        arm = next(arm for arm in study.arms if arm.name == place[1])
        sets = ((("set",), study.settings), ((*place, "set"), arm.settings))
        for where, settings in reversed(sets):
            for key in settings:
                if f"--{key}" in problem or problem.startswith(f"{key} "):
                    problem = problem.replace(f"unknown option --{key}", "no key of the recipe")
                    problem = problem.replace("'--", "'").replace("--", "")
                    return fields.error(where[0], problem, *where[1:], key)
    if study.content.get("design"):
        return fields.error(None, problem)
    return fields.error(place[0], problem, *place[1:])


def _planned(cell: Cell, found: Mapping[str, Any]) -> Planned:
    plan = dict(found["plan"])
    return Planned(
        cell=cell,
        picture=plan.pop("picture", None),
        weight_decay=plan.get("weight_decay"),
        plan=plan,
        on_gpu=found["on_gpu"],
    )


def _planned_command(study: Study, cell: Cell, schedule: Mapping[str, Any] | None) -> Planned:
    decay = cell.coefficient
    plan: dict[str, Any] = {}
    if schedule is not None:
        plan = {"steps": schedule["steps"], "sum_of_learning_rates": schedule["sum"]}
        if cell.dose is not None:
            decay = schedule["weight_decays"][study.doses.index(cell.dose)]
        plan["dose_of_weights"] = cell.dose
    return Planned(cell=cell, weight_decay=decay, plan={**plan, "weight_decay": decay})


def _without_repeats(study: Study, planned: Sequence[Planned]) -> list[Planned]:
    """Mark the cells whose runs would be those of an earlier one."""
    found: list[Planned] = []
    first: dict[str, str] = {}
    for one in planned:
        cell = one.cell
        groups = one.plan.get("groups")
        settings = {k: v for k, v in cell.settings(study).items() if k != "decay_mode"}
        same = json.dumps([cell.level, settings, groups, one.plan.get("model")], default=str)
        if cell.aa or groups is None:
            found.append(one)
            continue
        earlier = first.setdefault(same, cell.name)
        found.append(one if earlier == cell.name else Planned(**{**vars(one), "same_as": earlier}))
    return found


def answer(question: str, *details: Any) -> Any:
    """Answer one question, in the other process.

    Raises:
        GammaError: What is asked about cannot be used.
    """
    answers: dict[str, Callable[..., Any]] = {
        "policy": _policy,
        "recipe": _recipe,
        "schedule": _schedule,
    }
    return answers[question](*details)


def _policy(source: str) -> None:
    from gamma_nlp.decay.policy import DecayPolicy

    DecayPolicy.load(source)


def _recipe(engine: str, words: Sequence[str], offline: str, picture: bool) -> dict[str, Any]:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = offline
    else:  # a worker is offline by itself, but a recipe may read its data from the hub
        os.environ.pop("HF_HUB_OFFLINE", None)
    package = f"gamma_nlp.tasks.{engine}"
    settings = importlib.import_module(f"{package}.arguments")
    recipe, args = settings.read_arguments(list(words))
    make_plan = getattr(importlib.import_module(f"{package}.train"), ENGINES[engine])
    plan = make_plan(recipe, args, picture=picture)
    return {"plan": plan, "on_gpu": not args.use_cpu, "final": settings.final_scores(recipe)}


def _schedule(schedule: Mapping[str, Any], doses: Sequence[float]) -> dict[str, Any]:
    from gamma_nlp.hf.schedule import decay_for_dose, rates_of_schedule

    rates = rates_of_schedule(
        schedule["type"], schedule["lr"], steps=schedule["steps"], warmup=schedule["warmup"]
    )
    return {
        "steps": len(rates),
        "sum": math.fsum(rates),
        "weight_decays": [decay_for_dose(dose, rates) for dose in doses],
    }
