"""The design of a study, as ``study.json`` has it from before the first run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, listed
from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.results.json_reader import Reader, read_object

STUDY = "study.json"
RESULTS = "results.json"
FAILED = "failed.json"
PICTURE = "model.svg"
"""The model, drawn, in the study's folder; a command's own may be put there."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm at one dose: the runs that differ in their seed alone.

    Attributes:
        name: Unique in the study.
        arm: Its arm; the cells of an arm differ in dose.
        against: The cell that it is compared with; None for a baseline.
        same_as: The cell that stands for it, since its parameters decay alike.
        aa: Whether it is the baseline once more, from an initialisation moved by next to nothing.
        factors: In a factorial design, which categories decay.
        changes: The settings of its runs that are not the recipe's.
        plan: What was planned for its runs: steps, doses, digests of groups and data.
    """

    name: str
    arm: str
    dose: float | None = None
    coefficient: float | None = None
    weight_decay: float | None = None
    against: str | None = None
    same_as: str | None = None
    aa: bool = False
    policy: str | None = None
    factors: Mapping[str, bool] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run as planned: its cell, its seed, its folder."""

    cell: str
    seed: int
    folder: Path
    command: tuple[str, ...] = ()

    @property
    def results(self) -> Path:
        """Where its results are, if it is finished."""
        return self.folder / RESULTS


@dataclass(frozen=True, kw_only=True)
class Study:
    """The design of a study; ``fixed`` if it was written down before the first run."""

    folder: Path
    name: str
    metric: Metric
    baseline: str
    cells: tuple[Cell, ...]
    planned: tuple[Planned, ...]
    about: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    config_file: str | None = None
    fixed: bool = True

    def cell(self, name: str) -> Cell:
        """Return a cell by its name."""
        return next(cell for cell in self.cells if cell.name == name)

    def base(self, cell: Cell) -> str | None:
        """Return the cell with the runs that ``cell`` is compared with, if it is with others."""
        if cell.against is None:
            return None
        other = self.cell(cell.against).same_as or cell.against
        return None if other == cell.name else other


def read_study(folder: Path) -> Study:
    """Return the design of the study in ``folder``.

    Raises:
        GammaError: ``study.json`` is missing, cut short, or contradicts itself.
    """
    file = folder / STUDY
    top = read_object(file)
    if top.whole("schema", 1) != 1:
        raise GammaError(
            f"{file}: schema is {top.values['schema']}, and this version reads 1; update gamma_nlp"
        )
    cells = tuple(_cell(one) for one in top.each("cells"))
    planned = tuple(
        Planned(
            cell=one.text("cell"), seed=one.whole("seed"), folder=folder / one.text("folder"),
            command=one.texts("command", []),
        )
        for one in top.each("runs")
    )  # fmt: skip
    found = Study(
        folder=folder,
        name=top.text("name", folder.name),
        about=top.text("about", ""),
        metric=_metric(Reader(file, top.object("metric"), "metric")),
        baseline=top.text("baseline"),
        cells=cells,
        planned=planned,
        config=top.object("config", {}),
        config_file=top.text("config_file", None),
    )
    _check_names(file, found)
    return found


def _cell(one: Reader) -> Cell:
    factors = one.object("factors", None)
    for name in factors or ():
        Reader(one.file, factors, f"{one.at}.factors").true(name)
    return Cell(
        name=one.text("name"),
        arm=one.text("arm"),
        dose=one.number("dose", None),
        coefficient=one.number("coefficient", None),
        weight_decay=one.number("weight_decay", None),
        against=one.text("against", None),
        same_as=one.text("same_as", None),
        aa=one.true("aa", False),
        policy=one.text("policy", None),
        factors=factors,
        changes=one.object("set", {}),
        plan=one.object("plan", {}),
    )


def _metric(one: Reader) -> Metric:
    scores = one.texts("scores")
    if not scores:
        raise GammaError(f"{one.file}: metric.scores is empty; expected one score or more")
    for key in ("smallest_difference", "scale"):
        value = one.number(key, None)
        if value is not None and value <= 0:
            raise GammaError(f"{one.file}: metric.{key} is {value:g}; expected a number above 0")
    return Metric(
        scores=scores,
        higher_is_better=one.true("higher_is_better", True),
        unit=one.text("unit", ""),
        scale=one.number("scale", 1.0),
        smallest_difference=one.number("smallest_difference", None),
    )


def _check_names(file: Path, study: Study) -> None:
    names = [cell.name for cell in study.cells]
    for what, values in (
        ("cell", names),
        ("run", [f"{one.cell}, seed {one.seed}," for one in study.planned]),
        ("folder", [str(one.folder) for one in study.planned]),
    ):
        twice = next((one for one in values if values.count(one) > 1), None)
        if twice is not None:
            raise GammaError(f"{file}: the {what} {twice} is there twice; leave one out")
    for cell in study.cells:
        for key, other in (("against", cell.against), ("same_as", cell.same_as)):
            if other is not None and other not in names:
                raise GammaError(
                    f"{file}: {key} of cell {cell.name!r} names no cell: {other!r}"
                    f"{close_to(other, names)}"
                )
            if other is not None and getattr(study.cell(other), key) is not None:
                raise GammaError(
                    f"{file}: {key} of cell {cell.name!r} is {other!r}, which has one itself; "
                    f"expected a cell without {key}"
                )
    for one in study.planned:
        if one.cell not in names:
            raise GammaError(f"{file}: a run of no cell: {one.cell!r}{close_to(one.cell, names)}")
        if (same := study.cell(one.cell).same_as) is not None:
            raise GammaError(
                f"{file}: cell {one.cell!r} has runs, though {same!r} stands for it; leave out "
                "its same_as, or its runs"
            )
    arms = [cell.arm for cell in study.cells]
    if arms and study.baseline not in arms:
        hint = close_to(study.baseline, arms) or f"; there are {listed(dict.fromkeys(arms))}"
        raise GammaError(f"{file}: baseline names no arm: {study.baseline!r}{hint}")
