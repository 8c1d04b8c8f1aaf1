"""The gains of one run over its checkpoints: found, placed, read and measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gamma_nlp.diagnose.checkpoints import Checkpoint, find_checkpoints
from gamma_nlp.diagnose.measures import NEAR_ZERO, Measure, growth, joined, measure
from gamma_nlp.diagnose.outliers import Outlier, outliers
from gamma_nlp.diagnose.placement import Placed, Placer
from gamma_nlp.errors import GammaError, listed
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import Gain

UNUSED = "unused"
_ORDER = (*(str(category) for category in Category), UNUSED)


@dataclass(frozen=True, kw_only=True)
class State:
    """One checkpoint of a diagnosis.

    Attributes:
        label: What to call it: ``step 500``, or its name.
        path: Its file or folder.
        step: Its optimizer step, if known.
        measures: What was measured of each gain, by name.
    """

    label: str
    path: Path
    step: int | None
    measures: Mapping[str, Measure]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The gains of one run over its checkpoints.

    Attributes:
        model: The model's class.
        placed_by: The file that says what its gains are.
        gains: The gains, in the model's order.
        states: The checkpoints, in their order.
        near: What counts as near 0.
    """

    model: str
    placed_by: Path
    gains: tuple[Gain, ...]
    states: tuple[State, ...]
    near: float

    @property
    def categories(self) -> dict[str, list[Gain]]:
        """The gains by the text of their category."""
        found: dict[str, list[Gain]] = {}
        for gain in self.gains:
            found.setdefault(category_of(gain), []).append(gain)
        return {name: found[name] for name in _ORDER if name in found}

    @property
    def outliers(self) -> list[Outlier]:
        """The gains that are unlike their peers in the last checkpoint, the farthest first."""
        last = self.states[-1].measures
        return outliers(self.gains, [last[gain.name] for gain in self.gains])

    @property
    def broken(self) -> list[tuple[State, Gain]]:
        """The gains with values that are nan or infinite, and where."""
        return [
            (state, gain)
            for state in self.states
            for gain in self.gains
            if state.measures[gain.name].broken
        ]

    def over(self, gains: Sequence[Gain]) -> list[Measure]:
        """Return the measure of some gains together, in each checkpoint."""
        return [joined([state.measures[gain.name] for gain in gains]) for state in self.states]

    def growth(self, gains: Sequence[Gain]) -> float:
        """Return by what share the root mean square of some gains grew from first to last."""
        found = self.over(gains)
        return growth(found[0], found[-1])


def category_of(gain: Gain) -> str:
    """Return the category of a gain as text; a gain that is never reached has none."""
    return UNUSED if gain.category is None else gain.category.value


def diagnose(
    sources: Sequence[str | os.PathLike[str]],
    *,
    config: str | os.PathLike[str] | None = None,
    near: float = NEAR_ZERO,
    trust_remote_code: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Measure the gains of checkpoints of one run, reading nothing else of them.

    Args:
        sources: Folders or files of checkpoints, or the folder of a run for all that it holds.
        config: The model's ``config.json``, or a run's ``gain_table.json``, where none lies beside
            the checkpoints.
        near: A gain below this, by its absolute value, counts as near 0.
        trust_remote_code: Run the Python files that come with the model.
        note: Is told what is left out.

    Raises:
        GammaError: A checkpoint cannot be found, read or placed, or they are of different models.
    """
    checkpoints = find_checkpoints([os.fspath(source) for source in sources], note)
    placer = Placer(None if config is None else Path(config), trust_remote_code=trust_remote_code)
    placed = [placer.place(checkpoint) for checkpoint in checkpoints]
    for i, one in enumerate(placed[1:], 1):
        _check_same(checkpoints[0], placed[0], checkpoints[i], one)
    for name in placed[0].left_out:
        note(f"{checkpoints[0].path} is a base model without {name!r}, which is left out")
    gains = placed[0].table.gains
    names = _labels(checkpoints)
    states = [
        State(
            label=label,
            path=checkpoint.path,
            step=checkpoint.step,
            measures=_measures(checkpoint, one, near),
        )
        for label, checkpoint, one in zip(names, checkpoints, placed, strict=True)
    ]
    return Diagnosis(
        model=placed[0].table.model,
        placed_by=placed[0].file,
        gains=gains,
        states=tuple(states),
        near=near,
    )


def _labels(checkpoints: Sequence[Checkpoint]) -> list[str]:
    labels = [checkpoint.label for checkpoint in checkpoints]
    return [
        label if labels.count(label) == 1 else str(checkpoint.path)
        for label, checkpoint in zip(labels, checkpoints, strict=True)
    ]


def _measures(checkpoint: Checkpoint, placed: Placed, near: float) -> dict[str, Measure]:
    wanted = [name for names in placed.sources.values() for name in names]
    tensors = checkpoint.weights.read(wanted)
    found = {}
    for gain in placed.table:
        parts = [tensors[name] for name in placed.sources[gain.name]]
        numel = sum(part.numel() for part in parts)
        if numel != gain.numel:
            raise GammaError(
                f"{checkpoint.path}: {gain.name!r} has {numel} values and should have "
                f"{gain.numel} by {placed.file}; add --config FILE, its own model's config.json"
            )
        found[gain.name] = measure(parts, gain.offset, near)
    return found


def _check_same(first: Checkpoint, one: Placed, other: Checkpoint, two: Placed) -> None:
    """Refuse checkpoints of different models.

    Raises:
        GammaError: Names both, and what differs.
    """
    both = f"{first.path} ({one.table.model}) and {other.path} ({two.table.model})"
    mine, others = ({gain.name: gain for gain in p.table} for p in (one, two))
    for here, there, path in ((mine, others, first.path), (others, mine, other.path)):
        alone = [name for name in here if name not in there]
        if alone:
            raise GammaError(
                f"{both} are of different models: {path} alone has {listed(alone)}; give "
                f"checkpoints of one model, or add --config {two.file} to read both as that model"
            )
    for name, gain in mine.items():
        for what in ("numel", "category", "kind", "offset"):
            values = (getattr(gain, what), getattr(others[name], what))
            if values[0] != values[1]:
                raise GammaError(
                    f"{both} are of different models: {what} of {name!r} is {values[0]} in one and "
                    f"{values[1]} in the other; give checkpoints of one model"
                )
