"""Arms beside their baselines: the seeds that both have, with their items where both have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamma_nlp.study.found import Counted, Found
from gamma_nlp.study.item_sums import Sums
from gamma_nlp.study.statistics.metrics import Statistic
from gamma_nlp.study.statistics.paired import Paired, PairedSet
from gamma_nlp.study.study_file import Cell


def pair(found: Found, sums: Sums, cell: Cell) -> Paired | None:
    """Return a cell beside the one that it is compared with, or None without a common seed."""
    against = found.study.base(cell)
    if against is None:
        return None
    arm, base = found.of(cell.name), found.of(against)
    seeds = tuple(seed for seed in arm if seed in base)
    if not seeds:
        return None
    ours, theirs = [arm[seed] for seed in seeds], [base[seed] for seed in seeds]
    return Paired(
        arm=cell.name,
        baseline=against,
        seeds=seeds,
        baseline_scores=np.array([run.value for run in theirs]),
        arm_scores=np.array([run.value for run in ours]),
        sets=_sets(found, sums, ours, theirs),
    )


def alone(found: Found) -> list[str]:
    """Return a line for each cell with seeds that its baseline lacks, or the other way round."""
    lines = []
    for cell in found.study.cells:
        against = found.study.base(cell)
        if against is None or cell.same_as is not None:
            continue
        arm, base = found.of(cell.name), found.of(against)
        for mine, theirs, lacks in ((arm, base, against), (base, arm, cell.name)):
            dropped = sorted(mine.keys() - theirs.keys())
            if dropped and (arm or lacks != cell.name):
                seeds, them = ("seed", "it") if len(dropped) == 1 else ("seeds", "them")
                lines.append(
                    f"{cell.name} against {against}: {seeds} "
                    f"{', '.join(map(str, dropped))} not compared, since {lacks} lacks {them}"
                )
        if not arm or not base:
            lines.append(f"{cell.name if not arm else against} has no run that counts")
    return list(dict.fromkeys(lines))


def item_stacks(
    found: Found, sums: Sums, runs: Sequence[Counted]
) -> list[tuple[Statistic, np.ndarray]]:
    """Return the items of each evaluation set, (runs, items, k); none where a run lacks some."""
    stacks = []
    for path in found.study.metric.scores:
        here = [sums[run.run.file].get(path) for run in runs]
        known = [one for one in here if one is not None]
        if not known or len(known) < len(runs) or len(known[0].ids) < 2:
            return []
        stacks.append((known[0].statistic, np.stack([one.sums for one in known])))
    return stacks


def _sets(
    found: Found, sums: Sums, ours: Sequence[Counted], theirs: Sequence[Counted]
) -> tuple[PairedSet, ...]:
    both = item_stacks(found, sums, [*theirs, *ours])
    count = len(theirs)
    return tuple(
        PairedSet(
            statistic=statistic,
            baseline_sums=stack[:count],
            arm_sums=stack[count:],
            scale=found.study.metric.scale,
        )
        for statistic, stack in both
    )
