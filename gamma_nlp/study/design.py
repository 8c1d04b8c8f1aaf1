"""The cells of a study: each arm at each dose, compared with the baseline at the same dose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gamma_nlp.study.arms import Arm
from gamma_nlp.study.config import Study


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An arm at a dose; one run of it for each seed.

    Attributes:
        name: ``all@10%``.
        arm: The arm.
        dose: The share that decay alone takes, or ``None``.
        coefficient: ``weight_decay``, or ``None``.
        against: The cell that it is compared with; ``None`` for the baseline's own.
        aa: Whether it repeats the baseline with a change that cannot matter.
    """

    name: str
    arm: Arm
    dose: float | None
    coefficient: float | None
    against: str | None
    aa: bool = False

    @property
    def level(self) -> tuple[float | None, float | None]:
        """What it shares with the cells that it may be compared with."""
        return self.dose, self.coefficient

    def settings(self, study: Study) -> dict[str, Any]:
        """Return what its runs set; an arm's own win over those of all runs."""
        again: Mapping[str, Any] = (study.a_a or {}) if self.aa else {}
        return {**study.settings, **self.arm.settings, **again}


def cells_of(study: Study) -> list[Cell]:
    """Return the cells of a study, for each dose the baseline first."""
    levels: list[tuple[float | None, float | None, str]] = [
        *((dose, None, f"@{100 * dose:.6g}%") for dose in study.doses),
        *((None, value, f"@wd{value:.6g}") for value in study.coefficients),
    ]
    arms = sorted(study.arms, key=lambda arm: arm.name != study.baseline)
    cells = []
    for dose, coefficient, suffix in levels or [(None, None, "")]:
        base = f"{study.baseline}{suffix}"
        at: dict[str, Any] = {"dose": dose, "coefficient": coefficient}
        for arm in arms:
            against = None if arm.name == study.baseline else base
            cells.append(Cell(name=f"{arm.name}{suffix}", arm=arm, against=against, **at))
        if study.a_a is not None:
            name = f"{study.baseline}-again{suffix}"
            cells.append(Cell(name=name, arm=arms[0], against=base, aa=True, **at))
    return cells


def folder_name(cell: str, seed: int) -> str:
    """Return the name of a run's folder; safe on every file system.

    >>> folder_name("all@10%", 3)
    'all-10pct-seed3'
    """
    return re.sub(r"[^\w.+-]", "-", cell.replace("%", "pct")) + f"-seed{seed}"
