"""What a study says of itself before its first run, and at its end."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence

from gamma_nlp.study.design.config import Study
from gamma_nlp.study.design.plans import SMALL, Planned
from gamma_nlp.study.runs.folder import Run, has_score
from gamma_nlp.study.runs.progress import clock, time_left
from gamma_nlp.study.runs.runner import Ended, Machine
from gamma_nlp.study.statistics.power import needed_seeds
from gamma_nlp.study.statistics.sentence import amount, count

_MOST_EQUAL = 3


def design_lines(study: Study, planned: Sequence[Planned], runs: Sequence[Run]) -> list[str]:
    """Return what is compared, cell by cell."""
    metric = study.metric
    levels = len(study.doses) or len(study.coefficients)
    kind = "dose" if study.doses else "coefficient"
    what = f" x {count(levels, kind)}" if levels else ""
    again = ", and an A/A cell for each baseline" if study.a_a is not None else ""
    margin = metric.smallest_difference
    return [
        f"study {study.name}: {len(study.arms)} arms{what} x {len(study.seeds)} seeds{again}: "
        f"{len(runs)} runs" + (f"\n{study.about}" if study.about else ""),
        f"compares {' and '.join(metric.scores)} ({metric.unit}) with that of {study.baseline}; "
        + ("no smallest difference that matters is given" if margin is None else
           f"the smallest difference that matters is {amount(f'{margin:g}', metric.unit)}"),
        "",
        *_table(study, planned),
    ]  # fmt: skip


def _table(study: Study, planned: Sequence[Planned]) -> Iterator[str]:
    parts = list(dict.fromkeys(part for one in planned for part in one.plan.get("dose", {})))
    head = ["cell", "weight decay", *parts, "runs"]
    rows = [head]
    for one in planned:
        decay = "its own" if one.weight_decay is None else f"{one.weight_decay:.4g}"
        doses = one.plan.get("dose", {})
        told = ["-" if (d := doses.get(part)) is None else _share(d["dose"]) for part in parts]
        runs = f"those of {one.same_as}" if one.same_as else str(len(study.seeds))
        rows.append([one.cell.name, decay, *told, runs])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if parts:
        yield "under each category: how far decay alone pulls its gains over the planned run"
    if parts and any("?" in row[2:-1] for row in rows):
        yield "?: not known before the run, as of coupled decay, which acts through the optimizer"


def _share(dose: float | Sequence[float] | None) -> str:
    if isinstance(dose, Sequence):
        return f"{100 * dose[0]:.3g}-{_share(dose[-1])}"
    return "?" if dose is None else f"{100 * dose:.3g} %"


def notes(study: Study, planned: Sequence[Planned]) -> list[str]:
    """Return what the user should know before the time is spent."""
    found = []
    arms = list(dict.fromkeys(one.cell.arm.name for one in planned if _compared(one, planned)))
    comparisons = sum(_compared(one, planned) for one in planned)
    needed = needed_seeds(max(comparisons, 1))
    if len(study.seeds) < needed:
        which = "one comparison" if comparisons == 1 else f"{comparisons} comparisons under Holm"
        alone = f" ({needed_seeds(1)} for one alone)" if comparisons > 1 else ""
        found.append(
            f"the exact sign-flip test needs {needed} seeds for {which}{alone}; with "
            f"{len(study.seeds)} it cannot find a difference, however large"
        )
    if study.metric.smallest_difference is None:
        found.append(
            "without smallest_difference no arm can be found to make no difference that matters"
        )
    found += _small_doses(planned)
    equal = dict.fromkeys(
        (one.cell.arm.name, next(o.cell.arm.name for o in planned if o.cell.name == one.same_as))
        for one in planned
        if one.same_as is not None
    )
    if len(equal) > _MOST_EQUAL:
        found.append(
            f"{len(equal)} arms decay exactly what another one does, so they are not run again: "
            "see the last column"
        )
    else:
        found += [
            f"{arm} decays exactly what {other} does, so it is run once" for arm, other in equal
        ]
    if not arms:
        found.append("no arm differs from the baseline in what it decays: nothing is compared")
    return found


def _small_doses(planned: Sequence[Planned]) -> Iterator[str]:
    """Yield a warning for the levels at which no gain is pulled anywhere."""
    largest: dict[str, float] = {}
    for one in planned:
        level, dose = one.cell.name.partition("@")[2], one.largest_dose
        largest[level] = max(math.inf if dose is None else dose, largest.get(level, 0.0))
    small = {level: dose for level, dose in largest.items() if dose < 0.99 * SMALL}
    if small:
        where = "" if len(small) == len(largest) else f"at {', '.join(small)} "
        yield (
            f"{where}every dose is below {SMALL:.0%} (the largest is {max(small.values()):.2%}): "
            "the arms cannot differ; give larger ones"
        )


def _compared(one: Planned, planned: Sequence[Planned]) -> bool:
    """Return whether a cell's difference from its baseline can be other than 0."""
    return one.cell.against is not None and not one.cell.aa and one.same_as is None


def estimate(study: Study, runs: Sequence[Run], machine: Machine) -> str:
    """Return how long the rest will take, as far as finished runs tell."""
    done = [run for run in runs if has_score(run, study.metric)]
    durations = [seconds for run in done if (seconds := run.seconds()) is not None]
    where = f"{machine.jobs} at a time" + (
        f" on {count(len(machine.gpus), 'GPU')}"
        if machine.gpus
        else f", {count(machine.threads, 'CPU thread')} each"
    )
    left = time_left(durations, waiting=len(runs) - len(done), running=(), jobs=machine.jobs)
    if len(done) == len(runs):
        return f"all {len(runs)} runs are finished"
    time = "how long is known after the first run" if left is None else f"about {clock(left)}"
    kept = f"{count(len(done), 'run')} finished, " if done else ""
    return f"{kept}{len(runs) - len(done)} to run, {where}: {time}"


def end_lines(study: Study, ended: Ended, runs: Sequence[Run], machine: Machine) -> list[str]:
    """Return how it went, and what to type next."""
    done = sum(has_score(run, study.metric) for run in runs)
    lines = [f"failed: {name}: {reason}" for name, reason in ended.failed.items()]
    if ended.failed:
        lines.append(f"logs: {study.output}/runs/*/run.log; the same command tries again")
    spent = f" after {clock(ended.seconds)}" if ended.busy else ""
    lines.append(f"{done} of {len(runs)} runs are finished{spent}: {study.output}")
    if ended.stopped is not None:
        lines.append("the same command goes on from here")
    lines.append(shlex.join(["gamma-nlp", "report", str(study.output)]))
    return lines
