"""Findings with numbers written by hand, so that a form can be compared to the letter."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from gamma_nlp.study.found import find
from gamma_nlp.study.report.findings import Findings, Summary
from gamma_nlp.study.statistics.comparison import Comparison, Verdict
from gamma_nlp.study.statistics.noise import NoiseFloor
from gamma_nlp.study.statistics.trend import Trend
from tests.support.studies import write_bare

SCORES = {
    "none": [0.912, 0.915, 0.909],
    "all_params": [0.881, 0.890, 0.879],
    "half_&_half": [0.913, 0.914, 0.910],
    "none-again": [0.912, 0.914, 0.909],
}


def comparison(arm: str, difference: float, verdict: Verdict, **changes: object) -> Comparison:
    """A comparison against `none` with three seeds."""
    half = 0.4
    made = Comparison(
        arm=arm,
        baseline="none",
        seeds=3,
        items=872,
        difference=difference,
        low=difference - half,
        high=difference + half,
        t_low=difference - 0.3,
        t_high=difference + 0.3,
        deviation=0.2,
        correlation=0.9,
        p=0.00004,
        p_holm=0.00008,
        p_sign_flip=0.25,
        p_equivalence=0.9,
        p_equivalence_holm=1.0,
        verdict=verdict,
        bound=0.5,
        more_seeds=None,
        needed_items=None,
        sentence=f"{arm} is {verdict} than none: {difference:+.2f} points",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def hand_made(folder: Path) -> Findings:
    """Two arms, one of them undecided with one-sided knowledge, an A/A arm and a trend."""
    found = find(write_bare(folder, SCORES))
    undecided = comparison(
        "half_&_half", 0.03, Verdict.UNDECIDED, p=0.8, p_holm=0.8, p_equivalence_holm=0.051,
        low=math.nan, high=math.nan, sentence="undecided: about 4 more seeds would decide",
    )  # fmt: skip
    again = comparison(
        "none-again", -0.03, Verdict.NO_DIFFERENCE, p=0.42, p_holm=0.42, p_equivalence_holm=0.001,
    )  # fmt: skip
    return Findings(
        found=replace(
            found,
            left_out=("runs/all_params-seed4/results.json: seed is 7, 4 as planned",),
            unfinished=("none, seed 4 failed with exit code 1: error: <full> disk | $HOME",),
            notes=(),
        ),
        summaries=tuple(
            Summary(cell=cell, runs=found.of(cell.name)) for cell in found.study.cells
        ),
        comparisons=(comparison("all_params", -2.87, Verdict.WORSE), undecided),
        floor=(again,),
        noise=NoiseFloor(pairs=3, deviation=0.058, largest=0.1, moved=True),
        trends=(
            Trend(arm="all_params", doses=(0.01, 0.1), slope=-1.5, low=-2.0, high=-1.0, p=0.01,
                  seeds=3),
        ),
    )  # fmt: skip
