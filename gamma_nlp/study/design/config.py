"""A study as its YAML file describes it: arms, doses, seeds, what is run and what is compared.

Everything that can be wrong without a model at hand is found here, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, shown
from gamma_nlp.study.design.arms import Arm, read_arms
from gamma_nlp.study.design.command import Command, read_command
from gamma_nlp.study.design.fields import Fields
from gamma_nlp.study.design.metric import Metric, read_metric
from gamma_nlp.study.design.recipe import Recipe, read_recipe
from gamma_nlp.tasks.run.yaml_file import read_yaml

KEYS = (
    *("name", "about", "recipe", "command", "schedule", "set", "arms", "design", "baseline"),
    *("doses", "coefficients", "seeds", "metric", "smallest_difference", "a_a", "threads"),
    "output",
)
INIT_NOISE = {"init_noise": 1e-7}
"""What an A/A cell of a recipe changes: weights move by this share of their spread."""

_SEEDS = 2**32
_MOST_SEEDS = 10_000
_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study's settings.

    Attributes:
        file: The YAML file.
        content: What it holds.
        name: The study's name.
        about: What it is for, in a line.
        runs: What is run: a recipe or a command.
        settings: What all runs set.
        arms: What is compared.
        baseline: The arm that all others are compared with.
        doses: Shares that decay alone takes; at most one of these and of ``coefficients`` is there.
        coefficients: Values of ``weight_decay``.
        seeds: A run of each cell for each.
        metric: The score that is compared.
        a_a: What the second cell of the baseline sets, where there is one.
        threads: CPU threads of a run.
        output: The study's folder.
        typed: Keys of ``settings`` that the command line gave.
    """

    file: Path
    content: Mapping[str, Any]
    name: str
    about: str
    runs: Recipe | Command
    settings: Mapping[str, Any]
    arms: tuple[Arm, ...]
    baseline: str
    doses: tuple[float, ...]
    coefficients: tuple[float, ...]
    seeds: tuple[int, ...]
    metric: Metric
    a_a: Mapping[str, Any] | None
    threads: int
    output: Path
    typed: frozenset[str] = frozenset()

    @property
    def fields(self) -> Fields:
        """The file, for errors that name a line of it."""
        return Fields(self.file, self.content, typed=self.typed)


def read_study(
    file: Path, output: Path | None = None, changes: Mapping[str, Any] | None = None
) -> Study:
    """Read a study's YAML file.

    Args:
        file: The file.
        output: The study's folder, in place of what the file says.
        changes: Keys that stand in place of the file's; those of ``set`` one by one.

    Raises:
        GammaError: Something in it cannot be; names the line and the key.
    """
    if file.suffix.lower() not in (".yaml", ".yml") and file.is_dir():
        raise GammaError(f"{file} is a folder; give the YAML file of a study")
    content = _changed(read_yaml(file), changes or {})
    fields = Fields(file, content, typed=frozenset((changes or {}).get("set") or ()))
    fields.only(KEYS)
    if fields.has("recipe") == fields.has("command"):
        raise fields.error(
            None, "give either recipe (`recipe: {engine: glue, file: sst2.yaml}`) or command"
        )
    runs = read_recipe(fields) if fields.has("recipe") else read_command(fields)
    settings = dict(fields.mapping("set", "{num_train_epochs: 1}").data)
    arms = read_arms(fields)
    name = fields.text("name", file.stem)
    study = Study(
        file=file,
        content=content,
        name=name,
        about=fields.text("about", " ").strip(),
        runs=runs,
        settings=settings,
        arms=arms,
        baseline=_baseline(fields, arms),
        doses=_doses(fields),
        coefficients=_coefficients(fields),
        seeds=_seeds(fields),
        metric=read_metric(fields, recipe=isinstance(runs, Recipe)),
        a_a=_a_a(fields, isinstance(runs, Recipe)),
        threads=fields.whole("threads", least=1) if fields.has("threads") else 1,
        output=_output(fields, name) if output is None else _usable(output, "--output"),
        typed=fields.typed,
    )
    if study.threads > _MOST_THREADS:
        raise fields.error("threads", f"expected at most {_MOST_THREADS}, got {study.threads}")
    if study.doses and study.coefficients:
        raise fields.error("coefficients", "give doses or coefficients, not both")
    if study.a_a is not None and any(arm.name == f"{study.baseline}-again" for arm in arms):
        raise fields.error(
            "a_a", f"its cell is called '{study.baseline}-again', as one of the arms is; rename it"
        )
    runs.check(study.fields, study)
    return study


def _changed(content: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    own, more = content.get("set") or {}, changes.get("set") or {}
    if not more or not isinstance(own, Mapping):  # what is no mapping is refused later, by name
        return {**content, **{key: value for key, value in changes.items() if key != "set"}}
    return {**content, **changes, "set": {**own, **more}}


def _baseline(fields: Fields, arms: tuple[Arm, ...]) -> str:
    names = [arm.name for arm in arms]
    if not fields.has("baseline"):
        if fields.has("design"):
            return "none"
        raise fields.error(
            None,
            f"baseline is missing: the arm that the others are compared with, such as {names[0]}",
        )
    name = fields.text("baseline")
    if name not in names:
        hint = close_to(name, names) or f"; the arms are {', '.join(names)}"
        raise fields.error("baseline", f"no arm is called {name!r}{hint}")
    return name


def _doses(fields: Fields) -> tuple[float, ...]:
    if not fields.has("doses"):
        return ()
    doses = fields.numbers("doses")
    for index, dose in enumerate(doses):
        if not 0 < dose < 1:
            raise fields.error(
                "doses", f"a dose lies between 0 and 1, not {dose:g}; 0.1 is a pull of 10 %", index
            )
    return doses


def _coefficients(fields: Fields) -> tuple[float, ...]:
    if not fields.has("coefficients"):
        return ()
    values = fields.numbers("coefficients")
    for index, value in enumerate(values):
        if value <= 0:
            problem = f"weight_decay must be above 0, not {value:g}: else no policy has an effect"
            raise fields.error("coefficients", problem, index)
    return values


def _seeds(fields: Fields) -> tuple[int, ...]:
    if not fields.has("seeds"):
        raise fields.error(None, "seeds is missing; give their number, such as `seeds: 6`")
    if isinstance(fields.data["seeds"], list):
        numbers = fields.numbers("seeds")
        for index, seed in enumerate(numbers):
            if seed != int(seed) or not 0 <= seed < _SEEDS:
                problem = f"a seed is a whole number from 0 to {_SEEDS - 1}, not {seed:g}"
                raise fields.error("seeds", problem, index)
        seeds = tuple(int(seed) for seed in numbers)
    else:
        count = fields.whole("seeds", least=1)
        if count > _MOST_SEEDS:
            problem = f"this is their number, and {count} is more than {_MOST_SEEDS}; to name them"
            raise fields.error("seeds", f"{problem}, give a list such as [{count}, {count + 1}]")
        seeds = tuple(range(1, count + 1))
    if len(seeds) < 2:
        raise fields.error(
            "seeds",
            "one seed cannot tell a difference between arms from the spread between seeds; give at "
            "least 2, and 6 for the exact sign-flip test of one comparison",
        )
    return seeds


def _a_a(fields: Fields, recipe: bool) -> Mapping[str, Any] | None:
    given = fields.data.get("a_a")
    if given in (None, False):
        return None
    if given is True:
        if recipe:
            return INIT_NOISE
        raise fields.error(
            "a_a",
            "a command has to be told how to repeat the baseline with a change that cannot matter, "
            "for example `a_a: {set: {init_noise: 1.0e-7}}` with {init_noise} in the command",
        )
    own = fields.mapping("a_a", "true, or {set: {init_noise: 1.0e-7}}")
    own.only(("set",))
    changes = own.mapping("set", "{init_noise: 1.0e-7}").data
    if not changes:
        raise own.error("set" if "set" in own.data else None, "is empty; say what to change")
    return dict(changes)


def _output(fields: Fields, name: str) -> Path:
    if fields.has("output"):
        return _usable(Path(fields.text("output")), f"{fields.file}: output")
    return Path("runs") / (re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "study")


def _usable(path: Path, what: str) -> Path:
    text = str(path)
    if {"{", "}"} & set(text):
        raise GammaError(f"{what}: {shown(text)} has braces, which recipes replace; leave them out")
    return path.expanduser()
