"""What every comparison comes down to: a weighted sum of cells, one number for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.metrics import Statistic
from gamma_nlp.study.statistics.paired import Paired


@dataclass(frozen=True, kw_only=True)
class ContrastSet:
    """The items of one evaluation set in every cell."""

    statistic: Statistic
    scale: float
    sums: np.ndarray  # (cells, seeds, items, k)

    @property
    def items(self) -> int:
        """How many items the set has."""
        return int(self.sums.shape[2])


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Weights that add up to 0, on the scores of cells that share their seeds and items.

    An arm against its baseline is the contrast (-1, 1); a trend over doses and the effects of a
    factorial design are others.
    """

    seeds: tuple[int, ...]
    weights: np.ndarray  # (cells,)
    scores: np.ndarray  # (cells, seeds)
    sets: tuple[ContrastSet, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """The contrast of each seed."""
        return np.asarray(self.weights @ self.scores)

    def of_sums(self, one: ContrastSet, sums: np.ndarray) -> np.ndarray:
        """Return the contrast on one set for sums over items, (cells, ..., k)."""
        return one.scale * np.tensordot(self.weights, one.statistic.score(sums), axes=1)

    @staticmethod
    def of_pair(pair: Paired) -> Contrast:
        """Return arm minus baseline."""
        return Contrast(
            seeds=pair.seeds,
            weights=np.array([-1.0, 1.0]),
            scores=np.stack([pair.baseline_scores, pair.arm_scores]),
            sets=tuple(
                ContrastSet(
                    statistic=one.statistic,
                    scale=one.scale,
                    sums=np.stack([one.baseline_sums, one.arm_sums]),
                )
                for one in pair.sets
            ),
        )


def at_seeds(contrast: Contrast, seeds: Sequence[int]) -> Contrast:
    """Return the contrast on some of its seeds."""
    at = [contrast.seeds.index(seed) for seed in seeds]
    sets = tuple(replace(one, sums=one.sums[:, at]) for one in contrast.sets)
    return replace(contrast, seeds=tuple(seeds), scores=contrast.scores[:, at], sets=sets)


def combine(contrasts: Sequence[Contrast], weights: Sequence[float]) -> Contrast:
    """Return a weighted sum of contrasts over the seeds that all of them have.

    Items take part where all have the same sets, else only the seeds do.

    Raises:
        GammaError: They have no seed in common.
    """
    first, *rest = contrasts
    seeds = [s for s in first.seeds if all(s in other.seeds for other in rest)]
    if not seeds:
        raise GammaError("the cells have no seed in common, so they cannot be compared")
    parts = [at_seeds(contrast, seeds) for contrast in contrasts]
    shapes = [[(s.statistic, s.scale, *s.sums.shape[1:]) for s in part.sets] for part in parts]
    sets: tuple[ContrastSet, ...] = ()
    if all(shape == shapes[0] for shape in shapes):
        sets = tuple(
            replace(same[0], sums=np.concatenate([one.sums for one in same]))
            for same in zip(*(part.sets for part in parts), strict=True)
        )
    return Contrast(
        seeds=tuple(seeds),
        weights=np.concatenate([w * part.weights for w, part in zip(weights, parts, strict=True)]),
        scores=np.concatenate([part.scores for part in parts]),
        sets=sets,
    )
