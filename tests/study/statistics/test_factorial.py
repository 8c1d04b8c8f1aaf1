"""A full design gives back the effects it was made of, over the factors that act."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.contrast import ContrastSet
from gamma_nlp.study.statistics.factorial import Cell, factorial
from gamma_nlp.study.statistics.metrics import statistic

FACTORS = ("branch_last", "branch_inner", "shortcut", "head")
SEEDS = (1, 2, 3, 4, 5)


def cells(noise: float = 0.0, factors: tuple[str, ...] = FACTORS) -> list[Cell]:
    """Effects 1 of branch_inner and -0.5 of head, and 0.4 more of both together."""
    rng = np.random.default_rng(0)
    base = 80 + rng.normal(size=len(SEEDS))
    found = []
    for levels in itertools.product((False, True), repeat=len(factors)):
        on = dict(zip(factors, levels, strict=True))
        inner, head = on.get("branch_inner", False), on.get("head", False)
        score = base + 1.0 * inner - 0.5 * head + 0.4 * (inner and head)
        name = "+".join(name for name, level in on.items() if level) or "none"
        moved = noise * rng.normal(size=len(SEEDS))
        found.append(Cell(name=name, factors=on, seeds=SEEDS, scores=score + moved))
    return found


def test_effects_and_interactions_are_found() -> None:
    found = factorial(cells(noise=1e-3))
    by_name = {effect.factors: effect.difference for effect in found.effects}
    assert len(by_name) == 4 + 6 and found.dropped == ()
    assert by_name["branch_inner",] == pytest.approx(1.2, abs=0.01)  # 1, and 1.4 with the head
    assert by_name["head",] == pytest.approx(-0.3, abs=0.01)
    assert by_name["branch_inner", "head"] == pytest.approx(0.4, abs=0.01)
    others = set(by_name) - {("branch_inner",), ("head",), ("branch_inner", "head")}
    assert all(abs(by_name[name]) < 0.01 for name in others)


def test_intervals_are_t_over_seeds_and_holm_over_all_effects() -> None:
    design = cells(noise=0.5)
    found = factorial(design)
    with_head = np.mean([c.scores for c in design if c.factors["head"]], axis=0)
    without = np.mean([c.scores for c in design if not c.factors["head"]], axis=0)
    expected = stats.ttest_rel(with_head, without)
    (head,) = [effect for effect in found.effects if effect.factors == ("head",)]
    assert head.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (head.low, head.high) == pytest.approx((interval.low, interval.high))
    p = [effect.p for effect in found.effects]
    assert [e.p_holm for e in found.effects] == pytest.approx(multipletests(p, method="holm")[1])


def test_a_category_that_the_model_lacks_drops_out() -> None:
    """Without shortcut gains a cell with ``shortcut`` decays like the one without."""
    design = cells(noise=0.1)
    names = {tuple(cell.factors.values()): cell.name for cell in design}
    alike = []
    for cell in design:
        last, inner, shortcut, head = cell.factors.values()
        same = names[last, inner, False, head]
        alike.append(replace(cell, same_as=same, seeds=(), scores=None) if shortcut else cell)
    found = factorial(alike)
    assert found.dropped == ("shortcut",)
    assert found.factors == ("branch_last", "branch_inner", "head")
    assert len(found.effects) == 3 + 3
    half = factorial([c for c in design if not c.factors["shortcut"]])
    assert half == found  # a factor of one level drops out as well


def test_arms_that_are_alike_in_some_cells_only_stay() -> None:
    design = cells(noise=0.1)
    design[1] = replace(design[1], same_as=design[0].name, scores=None, seeds=())
    assert factorial(design).dropped == ()


def test_order_of_cells_is_irrelevant() -> None:
    design = cells(noise=0.3)
    assert {e.factors: e.difference for e in factorial(design[::-1]).effects} == pytest.approx(
        {e.factors: e.difference for e in factorial(design).effects}
    )


def test_items_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    mean = statistic("mean")
    helped = 0.5 + 2.0 * rng.normal(size=60)  # the same items in every seed
    found = []
    for levels in itertools.product((False, True), repeat=2):
        on = dict(zip(("branch_last", "head"), levels, strict=True))
        values = 10 + helped * on["head"] + 0.3 * rng.normal(size=(5, 60))
        sums = np.stack([mean.item_sums([row]) for row in values])[None]
        items = (ContrastSet(statistic=mean, scale=1.0, sums=sums),)
        scores = values.mean(axis=1)
        found.append(Cell(name=str(levels), factors=on, seeds=SEEDS, scores=scores, sets=items))
    with_items, without = factorial(found), factorial([replace(c, sets=()) for c in found])
    wide, narrow = ({e.factors: e.high - e.low for e in f.effects} for f in (with_items, without))
    assert wide["head",] > 3 * narrow["head",]
    assert wide["head",] == pytest.approx(2 * 1.96 * 2.0 / np.sqrt(60), rel=0.25)


def test_a_design_with_gaps_is_refused() -> None:
    with pytest.raises(
        GammaError, match=r"1 of the 16 cells have no runs, the first with branch_l"
    ):
        factorial(cells(noise=0.1)[1:])
    design = cells(noise=0.1)
    design[3] = replace(design[3], scores=None)
    with pytest.raises(GammaError, match="has no runs"):
        factorial(design)
    with pytest.raises(GammaError, match="same as 'gone'"):
        factorial([replace(design[0], same_as="gone"), *design[1:]])


def test_a_design_of_equal_cells_is_refused() -> None:
    first, *rest = cells()
    alike = [replace(cell, same_as=first.name, scores=None, seeds=()) for cell in rest]
    with pytest.raises(GammaError, match="all cells are equal"):
        factorial([first, *alike])


def test_a_score_that_is_no_number_names_the_cell() -> None:
    design = cells(noise=0.1)
    assert design[0].scores is not None
    design[0] = replace(design[0], scores=np.where([1, 0, 0, 0, 0], np.nan, design[0].scores))
    with pytest.raises(GammaError, match=r"cell none, seed 1"):
        factorial(design)
