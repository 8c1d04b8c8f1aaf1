"""All that a report says: summaries, comparisons and notes; the outputs differ in form alone."""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.report.designs import Design, designs, trends
from gamma_nlp.study.results.found import Counted, Found
from gamma_nlp.study.results.item_sums import read_sums
from gamma_nlp.study.results.pairs import alone, pair
from gamma_nlp.study.results.study_file import Cell, Study
from gamma_nlp.study.statistics.compare import compare
from gamma_nlp.study.statistics.comparison import Comparison
from gamma_nlp.study.statistics.items import p_by_items
from gamma_nlp.study.statistics.noise import NoiseFloor, noise_floor
from gamma_nlp.study.statistics.paired import Paired
from gamma_nlp.study.statistics.trend import Trend


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One cell: the scores of its runs by their seed, as shown."""

    cell: Cell
    runs: Mapping[int, Counted]

    @property
    def values(self) -> list[float]:
        """The scores, by seed."""
        return [run.value for run in self.runs.values()]

    @property
    def mean(self) -> float | None:
        """Of the seeds; None without a run."""
        return plain.fmean(self.values) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None for fewer than two seeds."""
        return plain.stdev(self.values) if len(self.runs) > 1 else None


@dataclass(frozen=True, kw_only=True)
class ItemTests:
    """The p of each seed alone over the items of one score; no verdict rests on them."""

    arm: str
    score: str
    p: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report says.

    Attributes:
        found: The runs that count and those that do not.
        summaries: A summary for each cell that was to be run.
        comparisons: Each arm against its baseline.
        by_items: What each seed alone would say, where the runs keep their items.
        floor: Each baseline against itself, where an A/A cell was run.
        noise: What these say together.
        trends: Of each arm over its doses, where there are several.
        designs: The effects of a factorial design, at each dose.
    """

    found: Found
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    by_items: tuple[ItemTests, ...] = ()
    floor: tuple[Comparison, ...] = ()
    noise: NoiseFloor | None = None
    trends: tuple[Trend, ...] = ()
    designs: tuple[Design, ...] = ()

    @property
    def study(self) -> Study:
        """Its design."""
        return self.found.study

    @property
    def metric(self) -> Metric:
        """What arms are compared by."""
        return self.study.metric

    @property
    def seeds(self) -> list[int]:
        """All seeds that count, in order."""
        return sorted({run.seed for run in self.found.runs})

    @property
    def digits(self) -> int:
        """How many decimals show what differs: two of the spread, and at least two."""
        spreads = [one.deviation for one in self.summaries if one.deviation]
        sizes = [self.metric.smallest_difference, plain.median(spreads) if spreads else None]
        least = min((size for size in sizes if size), default=1.0)
        return min(6, max(2, 1 - math.floor(math.log10(least))))


def findings(found: Found) -> Findings:
    """Compare the arms of a study with their baselines."""
    found, sums, notes = read_sums(found)
    study = found.study
    run_cells = [cell for cell in study.cells if cell.same_as is None]
    pairs = {cell.name: pair(found, sums, cell) for cell in run_cells}
    arms = [pairs[cell.name] for cell in run_cells if not cell.aa]
    again = [pairs[cell.name] for cell in run_cells if cell.aa]
    again_pairs = [one for one in again if one is not None]

    def compared(some: Sequence[Paired]) -> tuple[Comparison, ...]:
        return tuple(
            compare(
                some,
                margin=study.metric.smallest_difference,
                higher_is_better=study.metric.higher_is_better,
                unit=study.metric.unit,
            )
        )

    slopes, no_slopes = trends(found, pairs)
    effects, no_effects = designs(found, sums)
    notes += [*alone(found), *no_slopes, *no_effects]
    return Findings(
        found=replace(found, notes=(*found.notes, *notes)),
        summaries=tuple(Summary(cell=cell, runs=found.of(cell.name)) for cell in run_cells),
        comparisons=compared([one for one in arms if one is not None]),
        by_items=tuple(test for one in arms if one is not None for test in _item_tests(study, one)),
        floor=compared(again_pairs),
        noise=noise_floor(again_pairs) if again_pairs else None,
        trends=tuple(slopes),
        designs=tuple(effects),
    )


def _item_tests(study: Study, one: Paired) -> list[ItemTests]:
    if not one.sets:
        return []
    return [
        ItemTests(arm=one.arm, score=score, p=dict(zip(one.seeds, map(float, row), strict=True)))
        for score, row in zip(study.metric.scores, p_by_items(one), strict=True)
    ]
