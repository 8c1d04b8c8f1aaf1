"""The runs of a study that count, and a line for each that does not."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gamma_nlp.errors import GammaError
from gamma_nlp.study.design.metric import Metric
from gamma_nlp.study.results.agreement import strangers, untold
from gamma_nlp.study.results.json_reader import read_object
from gamma_nlp.study.results.loose_runs import metric_of, read_loose
from gamma_nlp.study.results.notes import alike, chosen_later, in_per_cent, strays
from gamma_nlp.study.results.run import Run, full_paths, read_results, score
from gamma_nlp.study.results.study_file import FAILED, STUDY, Cell, Planned, Study, read_study


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A run that counts: its scores by their paths, and their mean as it is shown."""

    run: Run
    scores: dict[str, float]
    value: float

    @property
    def cell(self) -> str:
        """The cell that it belongs to."""
        return self.run.planned.cell

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.run.planned.seed


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is there of a study.

    Attributes:
        study: Its design; the metric's paths are those of ``results.json``.
        runs: The runs that count, in the order of the plan.
        left_out: A line for each finished run that does not count: file, key, values.
        unfinished: A line for each run that failed, and one for those that were not started.
        notes: What else a reader should know.
    """

    study: Study
    runs: tuple[Counted, ...]
    left_out: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, cell: str) -> dict[int, Counted]:
        """Return the runs of a cell by their seed, in order."""
        mine = [run for run in self.runs if run.cell == cell]
        return {run.seed: run for run in sorted(mine, key=lambda run: run.seed)}

    def without(self, lines: dict[Path, str]) -> Found:
        """Return the same without the runs whose ``results.json`` are keys of ``lines``."""
        kept = tuple(run for run in self.runs if run.run.file not in lines)
        return replace(self, runs=kept, left_out=(*self.left_out, *lines.values()))


def find(
    folder: Path,
    *,
    metric: Sequence[str] = (),
    baseline: str | None = None,
    margin: float | None = None,
    higher_is_better: bool | None = None,
) -> Found:
    """Read a study's folder, or any folder of runs.

    Args:
        folder: Holds ``study.json``; or runs, and then ``metric`` and ``baseline`` are needed.
        metric: Scores by name or dotted path, whose mean is compared; a study has its own.
        baseline: The policy that the others are compared with.
        margin: The smallest difference that matters, as shown; a study has its own.
        higher_is_better: Of two values of ``metric``, where its name does not tell.

    Raises:
        GammaError: It holds no study and the options do not say how to make one, no run is
            finished, or no run has the metric.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise GammaError(f"{folder} {what}; give the folder of a study, or of runs")
    if (folder / STUDY).exists():
        for option, value in (("--baseline", baseline), ("--smallest-difference", margin)):
            if value is not None:
                raise GammaError(
                    f"{option} was fixed before the runs of this study, in {folder / STUDY}; "
                    "leave it out"
                )
        study = read_study(folder)
        lines: list[str] = []
    else:
        if not metric or baseline is None:
            raise GammaError(
                f"{folder} is no study: it has no {STUDY}. To report any folder of runs, say what "
                "to compare: --baseline POLICY --metric SCORE"
            )
        study, lines = read_loose(folder, baseline=baseline, margin=margin)
    return _counted(study, lines, metric, higher_is_better)


def _counted(
    study: Study, lines: Sequence[str], metric: Sequence[str], higher_is_better: bool | None
) -> Found:
    runs, unreadable, unfinished = _finished(study)
    left_out = [*lines, *unreadable]
    if not runs:
        first = [*left_out, *unfinished][:1]
        raise GammaError(
            f"{study.folder} has no finished run that can be read, of {len(study.planned)} planned"
            + "".join(f": {line}" for line in first)
        )
    paths = full_paths(metric or study.metric.scores, runs)
    notes = [*chosen_later(study, metric, paths), *untold(runs), *strays(study)]
    study = replace(study, metric=_metric(study, metric, paths, higher_is_better))
    if not study.fixed and in_per_cent(runs, study.metric):
        notes.append(f"{', '.join(paths)} is in per cent already, so it is shown as it is")
        study = replace(study, metric=replace(study.metric, scale=1.0))
    odd = strangers(study, runs)
    left_out += odd.values()
    counted = []
    for place, run in enumerate(runs):
        try:
            counted += [] if place in odd else [_scored(run, study.metric)]
        except GammaError as error:
            left_out.append(str(error))
    if not counted:
        raise GammaError(f"{study.folder}: no finished run can be compared: {left_out[0]}")
    found = Found(
        study=study,
        runs=tuple(counted),
        left_out=tuple(relative(line, study.folder) for line in left_out),
        unfinished=tuple(relative(line, study.folder) for line in unfinished),
    )
    return replace(found, notes=(*notes, *alike(found)))


def _finished(study: Study) -> tuple[list[Run], list[str], list[str]]:
    """Return the finished runs, a line for each that cannot be read, and lines for the others."""
    runs, unreadable, failed, missing = [], [], [], 0
    for planned in study.planned:
        if not planned.results.exists():
            why = _failure(planned)
            failed += [why] if why else []
            missing += not why
            continue
        try:
            runs.append(Run(planned=planned, results=read_results(planned.results)))
        except GammaError as error:
            unreadable.append(str(error))
    return runs, unreadable, [*failed, *_not_finished(study, missing)]


def _scored(run: Run, metric: Metric) -> Counted:
    scores = {path: score(run, path) for path in metric.scores}
    return Counted(run=run, scores=scores, value=metric.mean(scores, run.file))


def _metric(
    study: Study, chosen: Sequence[str], paths: tuple[str, ...], higher: bool | None
) -> Metric:
    if study.fixed and (not chosen or set(paths) == set(study.metric.scores)):
        return replace(study.metric, scores=paths)
    margin = None if study.fixed else study.metric.smallest_difference
    return metric_of(paths, higher_is_better=higher, smallest_difference=margin)


def _failure(planned: Planned) -> str | None:
    file = planned.folder / FAILED
    if not file.exists():
        return None
    who, where = f"{planned.cell}, seed {planned.seed}", f" ({file.parent})"
    try:
        told = read_object(file)
        code, why = told.whole("code", None), told.text("last_line", None)
    except GammaError:
        code = why = None
    how = "" if code is None else f" with exit code {code}"
    return f"{who} failed{how}{f': {why}' if why else ''}{where}"


def _not_finished(study: Study, count: int) -> list[str]:
    if not count:
        return []
    words = ["gamma-nlp", "study", study.config_file] if study.config_file else []
    again = f"again: {shlex.join(words)}" if words else "again"
    return [f"{count} run{'s are' if count > 1 else ' is'} not finished; if the study does not run "
            f"any more, start it {again}"]  # fmt: skip


def relative(line: str, folder: Path) -> str:
    """Return a message whose paths start from the study's folder, so that it can be passed on."""
    return line if folder == Path() else line.replace(f"{folder}/", "")


def cell_label(study: Study, cell: Cell) -> str:
    """Return a cell's name for a table, with what else it stands for."""
    same = [other.name for other in study.cells if other.same_as == cell.name]
    return " = ".join([cell.name, *same])
