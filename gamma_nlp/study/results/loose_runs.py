"""A study made of any folder of runs: a cell for each policy, mode and weight decay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to, listed
from gamma_nlp.study.design.metric import Metric, kind_of_all
from gamma_nlp.study.results.run import Run, read_results, value_at
from gamma_nlp.study.results.study_file import RESULTS, Cell, Planned, Study

_DEPTH = 4
_SEED = re.compile(r"[-_.]?seed[-_]?\d+$")


def read_loose(folder: Path, *, baseline: str, margin: float | None) -> tuple[Study, list[str]]:
    """Return a study of the runs below a folder, and a line for each that cannot be read.

    Args:
        folder: Holds run folders, which hold ``results.json``.
        baseline: The policy, or the name of the cell, that the others are compared with.
        margin: The smallest difference that matters, as shown.

    Raises:
        GammaError: There is no run, or none of the baseline.
    """
    runs, lines = [], []
    for file in _files(folder):
        try:
            results = read_results(file)
        except GammaError as error:
            lines.append(str(error))
            continue
        place = Planned(cell="", seed=results["seed"], folder=file.parent)
        runs.append(Run(planned=place, results=results))
    if not runs:
        why = f": {lines[0]}" if lines else ""
        raise GammaError(f"no run below {folder} has a {RESULTS} that can be read{why}")
    names = _names(runs)
    planned = tuple(
        Planned(cell=name, seed=run.planned.seed, folder=run.planned.folder)
        for run, name in zip(runs, names, strict=True)
    )
    twice = {(one.cell, one.seed) for one in planned if _count(planned, one) > 1}
    for cell, seed in sorted(twice):
        both = [str(one.folder) for one in planned if (one.cell, one.seed) == (cell, seed)]
        lines.append(f"{listed(both)} are all {cell}, seed {seed}; keep one of them")
    cells = _cells(baseline, runs, names)
    order = [cell.name for cell in cells]  # the baseline's first: a tie between runs is its
    study = Study(
        folder=folder,
        name=folder.resolve().name,
        metric=Metric(
            scores=(), higher_is_better=True, unit="", scale=1.0, smallest_difference=margin
        ),
        baseline=baseline,
        cells=cells,
        planned=tuple(
            one
            for one in sorted(planned, key=lambda one: order.index(one.cell))
            if (one.cell, one.seed) not in twice
        ),
        fixed=False,
    )
    return study, lines


def metric_of(
    paths: Sequence[str], *, higher_is_better: bool | None, smallest_difference: float | None
) -> Metric:
    """Return a metric for scores by their names.

    Raises:
        GammaError: Nothing says which way is better, or their mean means nothing.
    """
    try:
        kind = kind_of_all(paths)
    except GammaError as error:
        raise GammaError(f"--metric: {error}") from None
    if kind is None and higher_is_better is None:
        raise GammaError(
            f"--metric: say which way {paths[0]!r} is better: --better higher, or --better lower"
        )
    higher, unit, scale = kind or (True, "", 1.0)
    return Metric(
        scores=tuple(paths),
        higher_is_better=higher if higher_is_better is None else higher_is_better,
        unit=unit,
        scale=scale,
        smallest_difference=smallest_difference,
    )


def _files(folder: Path) -> list[Path]:
    patterns = ("*/" * depth + RESULTS for depth in range(_DEPTH))
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def _count(planned: Sequence[Planned], one: Planned) -> int:
    return sum((other.cell, other.seed) == (one.cell, one.seed) for other in planned)


def _policy(run: Run) -> str:
    policy = run.results.get("policy")
    if isinstance(policy, Mapping):
        policy = policy.get("name")
    if not isinstance(policy, str):
        policy = value_at(run.results, "settings.decay_policy")
    if isinstance(policy, str):
        return policy
    own = _SEED.sub("", run.planned.folder.name)
    return own or run.planned.folder.parent.name


def _names(runs: Sequence[Run]) -> list[str]:
    """Name each run's cell by its policy, and by mode and weight decay where they vary."""
    modes = [_mode(run) for run in runs]
    decays = [run.results.get("weight_decay") for run in runs]
    names = []
    for run, mode, decay in zip(runs, modes, decays, strict=True):
        name = _policy(run)
        if len(set(modes)) > 1 and mode:
            name += f" {mode}"
        if len(set(decays)) > 1 and decay is not None:
            name += f" wd={decay:.4g}"
        names.append(name)
    return names


def _cells(baseline: str, runs: Sequence[Run], names: Sequence[str]) -> tuple[Cell, ...]:
    by_name: dict[str, Run] = {}
    for name, run in zip(names, runs, strict=True):
        by_name.setdefault(name, run)
    arms = {name: _policy(run) for name, run in by_name.items()}
    base = [name for name, arm in arms.items() if baseline in (name, arm)]
    if not base:
        known = [*dict.fromkeys(arms.values())]
        hint = close_to(baseline, known) or f"; there are {listed(known, 12)}"
        raise GammaError(f"--baseline: no run of {baseline!r}{hint}")
    order = [*base, *(name for name in by_name if name not in base)]
    return tuple(_cell(name, arms[name], by_name, base) for name in order)


def _cell(name: str, arm: str, by_name: Mapping[str, Run], base: Sequence[str]) -> Cell:
    results = by_name[name].results
    against = None
    if name not in base:
        same = [one for one in base if _setting(by_name[one]) == _setting(by_name[name])]
        against = same[0] if same else base[0] if len(base) == 1 else None
    decay = results.get("weight_decay")
    return Cell(
        name=name, arm=arm, dose=_dose(results), weight_decay=decay, against=against, policy=arm
    )


def _setting(run: Run) -> tuple[Any, Any]:
    return _mode(run), run.results.get("weight_decay")


def _mode(run: Run) -> str | None:
    mode = value_at(run.results, "policy.mode")
    return mode if isinstance(mode, str) else None


def _dose(results: Mapping[str, Any]) -> float | None:
    decay, rates = results.get("weight_decay"), results.get("sum_of_learning_rates")
    if not isinstance(decay, (int, float)) or not isinstance(rates, (int, float)):
        return None
    share = min(decay * rates, 700.0)  # beyond, it is 1 to the last digit
    return round(-math.expm1(-share), 3) if share >= 0 else None
