"""Arms beside their baselines: the seeds that both have, with their items where both have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma_nlp.study.found import Counted, Found
from gamma_nlp.study.item_sums import ItemSums, Sums
from gamma_nlp.study.statistics.paired import Paired, PairedSet
from gamma_nlp.study.study_file import Cell


def pair(found: Found, sums: Sums, cell: Cell) -> Paired | None:
    """Return a cell beside the one that it is compared with, or None without a common seed."""
    if cell.against is None:
        return None
    arm, base = found.of(cell.name), found.of(cell.against)
    seeds = tuple(seed for seed in arm if seed in base)
    if not seeds:
        return None
    ours, theirs = [arm[seed] for seed in seeds], [base[seed] for seed in seeds]
    return Paired(
        arm=cell.name,
        baseline=cell.against,
        seeds=seeds,
        baseline_scores=np.array([run.value for run in theirs]),
        arm_scores=np.array([run.value for run in ours]),
        sets=_sets(found, sums, ours, theirs),
    )


def alone(found: Found) -> list[str]:
    """Return a line for each cell with seeds that its baseline lacks, or the other way round."""
    lines = []
    for cell in found.study.cells:
        if cell.against is None or cell.same_as is not None:
            continue
        arm, base = found.of(cell.name), found.of(cell.against)
        for mine, theirs, lacks in ((arm, base, cell.against), (base, arm, cell.name)):
            dropped = sorted(mine.keys() - theirs.keys())
            if dropped and (arm or lacks != cell.name):
                seeds = "seed" if len(dropped) == 1 else "seeds"
                lines.append(
                    f"{cell.name} against {cell.against}: {seeds} "
                    f"{', '.join(map(str, dropped))} not compared, since {lacks} lacks them"
                )
        if not arm or not base:
            lines.append(f"{cell.name if not arm else cell.against} has no run that counts")
    return list(dict.fromkeys(lines))


def _sets(
    found: Found, sums: Sums, ours: Sequence[Counted], theirs: Sequence[Counted]
) -> tuple[PairedSet, ...]:
    sets = []
    for path in found.study.metric.scores:
        ours_here, theirs_here = _here(sums, ours, path), _here(sums, theirs, path)
        if ours_here is None or theirs_here is None:
            return ()
        sets.append(
            PairedSet(
                statistic=ours_here[0].statistic,
                baseline_sums=np.stack([one.sums for one in theirs_here]),
                arm_sums=np.stack([one.sums for one in ours_here]),
                scale=found.study.metric.scale,
            )
        )
    return tuple(sets)


def _here(sums: Sums, runs: Sequence[Counted], path: str) -> list[ItemSums] | None:
    found = [sums[run.run.file].get(path) for run in runs]
    return None if None in found else [one for one in found if one is not None]
