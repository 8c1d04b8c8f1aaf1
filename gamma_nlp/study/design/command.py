"""Runs of a command of the user's: any that writes ``results.json``."""

from __future__ import annotations

import shutil
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import close_to, listed, shown
from gamma_nlp.study.design.fields import Fields
from gamma_nlp.study.design.recipe import all_settings, as_text

if TYPE_CHECKING:
    from gamma_nlp.study.design.cells import Cell
    from gamma_nlp.study.design.config import Study

PLACEHOLDERS = ("seed", "folder", "policy", "weight_decay", "dose", "arm", "cell")
"""What a command may ask for in braces, besides the keys of ``set``."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Runs of a command of the user's.

    Attributes:
        pattern: Its words, with placeholders.
        schedule: Its learning rates, as ``lr``, ``steps``, ``warmup`` and ``type``; or ``None``.
    """

    pattern: tuple[str, ...]
    schedule: Mapping[str, Any] | None

    @property
    def asked(self) -> set[str]:
        """The placeholders that the command has."""
        return {name for word in self.pattern for name in _names(word)}

    def check(self, fields: Fields, study: Study) -> None:
        """Refuse a command that leaves out what differs between runs, or asks for what is not."""
        asked = self.asked
        for name, why in (("seed", "every run would be the same"), ("folder", _no_folder())):
            if name not in asked:
                raise fields.error("command", f"it has no {{{name}}}, so {why}")
        policies = [arm.name for arm in study.arms if arm.policy is not None]
        if policies and "policy" not in asked:
            why = f"so the policy of {listed(policies)} would have no effect"
            raise fields.error("command", f"it has no {{policy}}, {why}")
        if "policy" in asked and (odd := [a.name for a in study.arms if a.policy is None]):
            raise fields.error("arms", "the command asks for {policy}; give one", odd[0])
        self._check_decay(fields, study, asked)
        known = {*PLACEHOLDERS}
        for where, settings in all_settings(study):
            for key, value in settings.items():
                if value is None:
                    problem = "is empty; give a value, or '' for none"
                    raise fields.error(where[0], problem, *where[1:], key)
                if key in PLACEHOLDERS:
                    raise fields.error(where[0], "the study sets it itself", *where[1:], key)
                if key not in asked:
                    hint = close_to(key, asked - known)
                    problem = f"the command has no {{{key}}}, so this would have no effect{hint}"
                    raise fields.error(where[0], problem, *where[1:], key)
        for arm in study.arms:
            have = {*known, *study.settings, *arm.settings}
            if unknown := sorted(asked - have):
                hint = close_to(unknown[0], have)
                problem = f"nothing sets {{{unknown[0]}}} for the arm {arm.name!r}{hint}"
                more = "" if hint else f"; give it in set, or one of {', '.join(PLACEHOLDERS)}"
                raise fields.error("command", problem + more)
        self._check_again(fields, study)
        self._check_program(fields)

    def _check_decay(self, fields: Fields, study: Study, asked: set[str]) -> None:
        if (study.doses or study.coefficients) and not asked & {"weight_decay", "dose"}:
            what = "doses" if study.doses else "coefficients"
            problem = f"the command has no {{weight_decay}}, so {what} would have no effect"
            raise fields.error(what, problem)
        for name in ("dose", "weight_decay"):
            if name in asked and not (study.doses or study.coefficients):
                raise fields.error("command", f"it asks for {{{name}}}; give doses or coefficients")
        if "dose" in asked and not study.doses:
            raise fields.error("command", "it asks for {dose}; give doses")
        if study.doses and "weight_decay" in asked and self.schedule is None:
            raise fields.error(
                "doses",
                "a dose becomes a coefficient by the schedule of the learning rate; give it, such "
                "as `schedule: {lr: 1.0e-3, steps: 1000, warmup: 100, type: linear}`",
            )

    def _check_again(self, fields: Fields, study: Study) -> None:
        if study.a_a is None:
            return
        arm = next(arm for arm in study.arms if arm.name == study.baseline)
        before = {**study.settings, **arm.settings}
        if all(before.get(key) == value for key, value in study.a_a.items()):
            raise fields.error("a_a", "it changes nothing, so it would repeat the baseline exactly")

    def _check_program(self, fields: Fields) -> None:
        program = self.pattern[0]
        if program != "python" and not _names(program) and shutil.which(program) is None:
            raise fields.error("command", f"no program {shown(program)} is installed here", 0)
        if program.startswith("python") and len(self.pattern) > 1:
            script = self.pattern[1]
            if script.endswith(".py") and not _names(script) and not Path(script).is_file():
                problem = f"no file {script} in {_here()}, where the command runs"
                raise fields.error("command", problem, 1)

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
        """Return the command of one run.

        Args:
            study: The study.
            cell: One of its cells.
            policy: The preset or file of the cell's policy.
            weight_decay: Its coefficient.
            seed: The run's seed.
            folder: The run's folder.
        """
        values = {key: as_text(value) for key, value in cell.settings(study).items()}
        values |= {"arm": cell.arm.name, "cell": cell.name, "policy": as_text(policy)}
        values |= {"dose": as_text(cell.dose), "weight_decay": as_text(weight_decay)}
        values |= {"seed": str(seed), "folder": str(folder)}
        return [word.format_map(values) for word in self.pattern]


def read_command(fields: Fields) -> Command:
    """Read what a study runs, where it is a command."""
    given = fields.data["command"]
    if not isinstance(given, list) or not given:
        raise fields.error(
            "command", f"expected a list of words such as [python, train.py], got {shown(given)}"
        )
    for index, word in enumerate(given):
        if not isinstance(word, (str, int, float)) or isinstance(word, bool):
            problem = f"word {index + 1} is {shown(word)}, no text; put it in quotes"
            raise fields.error("command", problem, index)
        try:
            list(_names(str(word)))
        except ValueError as error:
            hint = "; write {{ and }} for braces that are none of a placeholder"
            raise fields.error("command", f"{shown(word)}: {error}{hint}", index) from None
    return Command(pattern=tuple(str(word) for word in given), schedule=_schedule(fields))


def _schedule(fields: Fields) -> Mapping[str, Any] | None:
    if not fields.has("schedule"):
        return None
    own = fields.mapping("schedule", "{lr: 1.0e-3, steps: 1000, warmup: 100, type: linear}")
    own.only(("lr", "steps", "warmup", "type"))
    for key in ("lr", "steps"):
        if not own.has(key):
            raise own.error(None, f"{key} is missing")
    if own.number("lr") <= 0:
        raise own.error("lr", f"expected a number above 0, got {own.number('lr'):g}")
    return {
        "lr": float(own.number("lr")),
        "steps": own.whole("steps", least=1),
        "warmup": own.whole("warmup", least=0) if own.has("warmup") else 0,
        "type": own.text("type", "linear"),
    }


def started(command: Sequence[str]) -> list[str]:
    """Return a command as it is started: ``python`` is the one that runs this."""
    return [sys.executable if command[0] == "python" else command[0], *command[1:]]


def _names(word: str) -> list[str]:
    """Return the placeholders of a word.

    Raises:
        ValueError: Its braces are not those of placeholders.
    """
    found = []
    for _, name, spec, conversion in string.Formatter().parse(word):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"{{{name}}} is no placeholder such as {{seed}}")
        found.append(name)
    return found


def _no_folder() -> str:
    return "nothing says where a run writes its results.json"


def _here() -> str:
    return "the current folder"
