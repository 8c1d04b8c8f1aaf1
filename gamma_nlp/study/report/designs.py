"""What a study says beyond single arms: trends over doses, and effects in a factorial design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gamma_nlp.errors import GammaError
from gamma_nlp.study.found import Found
from gamma_nlp.study.item_sums import Sums
from gamma_nlp.study.pairs import item_stacks
from gamma_nlp.study.statistics import factorial as factorials
from gamma_nlp.study.statistics.contrast import ContrastSet
from gamma_nlp.study.statistics.paired import Paired
from gamma_nlp.study.statistics.trend import Trend, trend
from gamma_nlp.study.study_file import Cell


@dataclass(frozen=True, kw_only=True)
class Design:
    """The effects of a factorial design at one dose."""

    dose: float | None
    factorial: factorials.Factorial


def trends(found: Found, pairs: Mapping[str, Paired | None]) -> tuple[list[Trend], list[str]]:
    """Return each arm's trend over its doses, and a note for each that has none."""
    results, notes = [], []
    cells = [cell for cell in found.study.cells if not cell.aa and not cell.same_as]
    for arm in dict.fromkeys(cell.arm for cell in cells):
        mine = {cell.dose: pairs.get(cell.name) for cell in cells if cell.arm == arm}
        known = {dose: pair for dose, pair in mine.items() if dose is not None and pair is not None}
        if len(known) < 2:
            continue
        try:
            results.append(trend({dose: _named(pair, arm) for dose, pair in known.items()}))
        except GammaError as error:
            notes.append(f"{arm}: {error}")
    return results, notes


def designs(found: Found, sums: Sums) -> tuple[list[Design], list[str]]:
    """Return the effects of the factorial design at each dose, and a note where it is not whole."""
    cells = [cell for cell in found.study.cells if cell.factors is not None and not cell.aa]
    results, notes = [], []
    for dose in dict.fromkeys(cell.dose for cell in cells):
        mine = [cell for cell in cells if cell.dose == dose]
        seeds = _common_seeds(found, mine)
        try:
            effects = factorials.factorial([_cell(found, sums, cell, seeds) for cell in mine])
            results.append(Design(dose=dose, factorial=effects))
        except GammaError as error:
            at = "" if dose is None else f" at dose {100 * dose:g} %"
            notes.append(f"no effects of the design{at}: {error}")
    return results, notes


def _named(pair: Paired, arm: str) -> Paired:
    return Paired(
        arm=arm,
        baseline=pair.baseline,
        seeds=pair.seeds,
        baseline_scores=pair.baseline_scores,
        arm_scores=pair.arm_scores,
        sets=pair.sets,
    )


def _common_seeds(found: Found, cells: list[Cell]) -> tuple[int, ...]:
    """Return the seeds that every cell with runs of its own has."""
    sets = [set(found.of(cell.name)) for cell in cells if cell.same_as is None]
    return tuple(sorted(set.intersection(*sets))) if sets else ()


def _cell(found: Found, sums: Sums, cell: Cell, seeds: tuple[int, ...]) -> factorials.Cell:
    assert cell.factors is not None
    if cell.same_as is not None:
        return factorials.Cell(name=cell.name, factors=cell.factors, same_as=cell.same_as)
    runs = found.of(cell.name)
    mine = [runs[seed] for seed in seeds]
    stacks = item_stacks(found, sums, mine)
    return factorials.Cell(
        name=cell.name,
        factors=cell.factors,
        seeds=seeds,
        scores=np.array([run.value for run in mine]) if mine else None,
        sets=tuple(
            ContrastSet(statistic=statistic, scale=found.study.metric.scale, sums=stack[None])
            for statistic, stack in stacks
        ),
    )
