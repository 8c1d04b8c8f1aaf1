"""The 2^k design over categories: what each does by itself, and what two do together.

Every effect is a contrast of all cells, so that all runs take part in each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gamma_nlp.errors import GammaError, listed
from gamma_nlp.study.statistics.contrast import Contrast, ContrastSet, combine
from gamma_nlp.study.statistics.holm import holm
from gamma_nlp.study.statistics.interval import estimate


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the design.

    Attributes:
        name: Of the cell.
        factors: Which factors are on.
        same_as: The cell whose runs stand for this one's, since both decay alike; it then needs
            no scores of its own.
        seeds, scores: Of its runs, in shown units.
        sets: Items, each with sums of shape (1, seeds, items, k).
    """

    name: str
    factors: Mapping[str, bool]
    same_as: str | None = None
    seeds: tuple[int, ...] = ()
    scores: np.ndarray | None = None
    sets: tuple[ContrastSet, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An effect of one factor, or the interaction of two.

    Attributes:
        factors: One name, or two.
        difference: One: mean of the cells with it minus mean of those without. Two: how much more
            the first does where the second is on than where it is off.
        low, high: Its interval over seeds and items.
        p, p_holm: Of none; after Holm over all effects of the design.
        seeds: How many seeds all cells share.
    """

    factors: tuple[str, ...]
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """All effects, main ones first, and the factors that dropped out."""

    effects: tuple[Effect, ...]
    factors: tuple[str, ...]
    dropped: tuple[str, ...]
    """Factors that change nothing in any cell: categories the model does not have."""


def factorial(
    cells: Sequence[Cell], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Factorial:
    """Return main effects and two-way interactions over paired seeds, Holm over all of them.

    Raises:
        GammaError: Cells are missing, or no factor changes anything.
    """
    if not cells:
        raise GammaError("a design needs cells, and there are none")
    names = sorted({name for cell in cells for name in cell.factors})
    order = [name for name in cells[0].factors if name in names]
    for cell in cells:
        if sorted(cell.factors) != names:
            raise GammaError(f"cell {cell.name} has the factors {listed(cell.factors, 9)}")
    runs = {cell.name: cell for cell in cells}
    by_levels = {tuple(cell.factors[name] for name in order): _runs(cell, runs) for cell in cells}
    factors = [name for number, name in enumerate(order) if _acts(number, by_levels)]
    if not factors:
        raise GammaError(f"none of {listed(order, 9)} changes anything: all cells are equal")
    kept = [order.index(name) for name in factors]
    design = {tuple(levels[at] for at in kept): cell for levels, cell in by_levels.items()}
    full = list(itertools.product((False, True), repeat=len(factors)))
    missing = [levels for levels in full if levels not in design]
    if missing:
        text = ", ".join(
            f"{n} {'on' if on else 'off'}" for n, on in zip(factors, missing[0], strict=True)
        )
        raise GammaError(
            f"{len(missing)} of the {len(full)} cells have no runs, the first with {text}; "
            "a design is analysed whole: finish its runs"
        )
    singles = [_contrast(design[levels]) for levels in full]
    signs = 2.0 * np.array(full) - 1
    effects = [(name,) for name in factors] + list(itertools.combinations(factors, 2))
    estimates, seeds = [], 0
    for effect in effects:
        at = [factors.index(name) for name in effect]
        # Twice the mean of a sign: the difference of two halves. Four times: of two differences.
        weights = 2 ** len(effect) * signs[:, at].prod(axis=1) / len(full)
        contrast = combine(singles, list(weights))
        seeds = len(contrast.seeds)
        estimates.append(estimate(contrast, resamples, seed))
    p = [found.p() for found in estimates]
    return Factorial(
        effects=tuple(
            Effect(
                factors=effect,
                difference=found.difference,
                low=found.interval(level)[0],
                high=found.interval(level)[1],
                p=raw,
                p_holm=adjusted,
                seeds=seeds,
            )
            for effect, found, raw, adjusted in zip(effects, estimates, p, holm(p), strict=True)
        ),
        factors=tuple(factors),
        dropped=tuple(name for name in order if name not in factors),
    )


def _runs(cell: Cell, runs: Mapping[str, Cell]) -> Cell:
    """Return the cell whose runs count for this one."""
    seen = {cell.name}
    while cell.same_as is not None:
        if cell.same_as not in runs or cell.same_as in seen:
            raise GammaError(f"cell {cell.name} is the same as {cell.same_as!r}, which has no runs")
        cell = runs[cell.same_as]
        seen.add(cell.name)
    if cell.scores is None or not cell.seeds:
        raise GammaError(f"cell {cell.name} has no runs; a design is analysed whole")
    return cell


def _acts(number: int, by_levels: Mapping[tuple[bool, ...], Cell]) -> bool:
    """Return whether switching a factor leads to other runs anywhere."""
    for levels, cell in by_levels.items():
        other = (*levels[:number], not levels[number], *levels[number + 1 :])
        if other in by_levels and by_levels[other].name != cell.name:
            return True
    return False


def _contrast(cell: Cell) -> Contrast:
    scores = np.asarray(cell.scores, dtype=np.float64)
    if scores.shape != (len(cell.seeds),):
        raise GammaError(f"cell {cell.name} has {scores.size} scores for {len(cell.seeds)} seeds")
    for seed, score in zip(cell.seeds, scores, strict=True):
        if not np.isfinite(score):
            raise GammaError(f"cell {cell.name}, seed {seed}: the score is {score}, not a number")
    return Contrast(seeds=cell.seeds, weights=np.ones(1), scores=scores[None], sets=cell.sets)
