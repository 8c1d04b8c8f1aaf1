"""Small made-up studies for the tests of the statistics."""

from __future__ import annotations

import numpy as np

from gamma_nlp.study.statistics.metrics import statistic
from gamma_nlp.study.statistics.paired import Paired, PairedSet


def from_scores(
    baseline: list[float] | np.ndarray, arm: list[float] | np.ndarray, name: str = "all"
) -> Paired:
    return Paired(
        arm=name,
        baseline="none",
        seeds=tuple(range(1, len(arm) + 1)),
        baseline_scores=np.asarray(baseline),
        arm_scores=np.asarray(arm),
    )


def from_items(
    baseline: np.ndarray, arm: np.ndarray, name: str = "all", scale: float = 100.0
) -> Paired:
    """A study of means over items, both of shape (seeds, items)."""
    mean = statistic("mean")
    sums = [np.stack([mean.item_sums([row]) for row in part]) for part in (baseline, arm)]
    one = PairedSet(statistic=mean, baseline_sums=sums[0], arm_sums=sums[1], scale=scale)
    return Paired(
        arm=name,
        baseline="none",
        seeds=tuple(range(1, len(arm) + 1)),
        baseline_scores=scale * baseline.mean(axis=1),
        arm_scores=scale * arm.mean(axis=1),
        sets=(one,),
    )


def outcomes(
    seed: int, *, seeds: int = 5, items: int = 200, gain: float = 0.0, own: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong of a baseline and of an arm on the same items."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=items) + 1
    noise = rng.normal(size=(seeds, items))

    def run(shift: float) -> np.ndarray:
        moved = own * rng.normal(size=(seeds, 1)) + 0.5 * rng.normal(size=(seeds, items))
        return 1.0 * (hard + noise + moved + shift > 0)

    return run(0.0), run(gain)
