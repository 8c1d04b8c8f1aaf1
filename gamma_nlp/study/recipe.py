"""Runs of one of this package's recipes, and what every kind of run sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import close_to
from gamma_nlp.study.fields import Fields

if TYPE_CHECKING:
    from gamma_nlp.study.config import Study
    from gamma_nlp.study.design import Cell

ENGINES = {"glue": "plan_finetune", "translation": "plan_translation"}
"""The rooms of ``gamma_nlp.tasks`` that a study can run, and what plans a run in ``train.py``."""

OWN = {
    "seed": "the study sets it; give seeds",
    "data_seed": "the study sets the seed; leave it out, so that the seeds of the arms pair",
    "output_dir": "each run has a folder of its own; give output",
    "resume": "a study goes on where it stopped by itself; leave it out",
    "cpu_threads": "give threads",
    "decay_policy": "it belongs to an arm; give the arm a policy",
}
"""Keys of a recipe that the study sets itself."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Runs of one of this package's recipes.

    Attributes:
        engine: ``glue`` or ``translation``.
        file: The recipe's YAML file.
    """

    engine: str
    file: Path

    def check(self, fields: Fields, study: Study) -> None:
        """Refuse settings that the study makes itself; the recipe checks the others."""
        own = dict(OWN)
        if study.doses or study.coefficients:
            what = "doses" if study.doses else "coefficients"
            own |= dict.fromkeys(("dose", "weight_decay"), f"the study has {what} already")
        if study.a_a is not None:
            own["init_noise"] = "the A/A cell alone has it; see a_a"
        for where, settings in all_settings(study):
            for key, value in settings.items():
                if where[0] == "a_a" and key == "init_noise":
                    continue
                if key in own:
                    raise fields.error(where[0], own[key], *where[1:], key)
                if value is None or value == []:
                    raise fields.error(where[0], "is empty; give a value", *where[1:], key)

    def words(self, study: Study, cell: Cell, policy: str | None) -> list[str]:
        """Return the command line of a cell's runs, without seed and folder.

        Args:
            study: The study.
            cell: One of its cells.
            policy: The preset or file of the cell's policy.
        """
        words: list[str] = [str(self.file)]
        for key, value in cell.settings(study).items():
            words += _option(key, value)
        if policy is not None:
            words += ["--decay_policy", policy]
        if cell.dose is not None:
            words += ["--dose", repr(cell.dose)]
        if cell.coefficient is not None:
            words += ["--weight_decay", repr(cell.coefficient)]
        return [*words, "--cpu_threads", str(study.threads)]

    def command(
        self,
        study: Study,
        cell: Cell,
        *,
        policy: str | None,
        weight_decay: float | None,
        seed: int,
        folder: Path,
    ) -> list[str]:
        """Return the command of one run; ``weight_decay`` follows from the words."""
        program = ["python", "-m", f"gamma_nlp.tasks.{self.engine}"]
        run = ["--seed", str(seed), "--output_dir", str(folder)]
        return [*program, *self.words(study, cell, policy), *run]


def read_recipe(fields: Fields) -> Recipe:
    """Read what a study runs, where it is a recipe."""
    own = fields.mapping("recipe", "{engine: glue, file: sst2.yaml}")
    own.only(("engine", "file"))
    engine = own.text("engine")
    if engine not in ENGINES:
        hint = close_to(engine, ENGINES) or f"; the engines are {' and '.join(ENGINES)}"
        raise own.error("engine", f"unknown engine {engine!r}{hint}")
    file = Path(os.path.normpath(fields.file.parent / Path(own.text("file")).expanduser()))
    if not file.is_file():
        raise own.error("file", f"no file {file}; it is looked for from the folder of this one")
    if fields.has("schedule"):
        raise fields.error("schedule", "a recipe plans its own; leave it out")
    return Recipe(engine=engine, file=file)


def all_settings(study: Study) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield all settings, with the keys that lead to them."""
    yield ("set",), study.settings
    for arm in study.arms:
        yield ("arms", arm.name, "set"), arm.settings
    if study.a_a is not None:
        yield ("a_a", "set"), study.a_a


def _option(key: str, value: Any) -> list[str]:
    option = f"--{key}"
    if isinstance(value, list):
        return [option, *map(as_text, value)]
    text = as_text(value)
    return [f"{option}={text}"] if text.startswith("-") or not text else [option, text]


def as_text(value: Any) -> str:
    """Return a value of a config as a word of a command line."""
    if isinstance(value, bool):  # YAML reads no and yes as these; recipes take both spellings
        return "yes" if value else "no"
    if isinstance(value, (Mapping, list)):
        return json.dumps(value)
    return "" if value is None else str(value)
