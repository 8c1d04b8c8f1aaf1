"""What is compared: one arm and its baseline, paired by seed and, where there are any, by item."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gamma_nlp.errors import GammaError
from gamma_nlp.study.statistics.metrics import Statistic

CLOSE = 2e-3
"""How far, as a share, a score may lie from its items: papers' digits, float32, batch means."""


@dataclass(frozen=True, kw_only=True)
class PairedSet:
    """The items of one evaluation set, the same ones in the same order for every seed and arm."""

    statistic: Statistic
    baseline_sums: np.ndarray  # (seeds, items, k): Statistic.item_sums of every seed
    arm_sums: np.ndarray
    scale: float = 1.0  # shown score = scale * the statistic's

    @property
    def items(self) -> int:
        """How many items the set has."""
        return int(self.baseline_sums.shape[1])

    def by_group(self, groups: np.ndarray) -> PairedSet:
        """Return the set with groups of items in place of items, such as documents of sentences.

        Items of a group go right and wrong together, so that single ones would count as more
        than they are.

        Args:
            groups: The group of each item: numbers or names.
        """
        if np.shape(groups) != (self.items,):
            raise GammaError(f"groups of shape {np.shape(groups)} for {self.items} items")
        names, at = np.unique(groups, return_inverse=True)
        member = (at == np.arange(len(names))[:, None]).astype(np.float64)  # (groups, items)
        return replace(
            self,
            statistic=replace(self.statistic, linear=False),  # sizes of groups differ
            baseline_sums=member @ self.baseline_sums,
            arm_sums=member @ self.arm_sums,
        )


@dataclass(frozen=True, kw_only=True)
class Paired:
    """One arm against its baseline in shown units; a score is the mean over the ``sets``."""

    arm: str
    baseline: str
    seeds: tuple[int, ...]
    baseline_scores: np.ndarray  # (seeds,)
    arm_scores: np.ndarray  # (seeds,)
    sets: tuple[PairedSet, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be compared, naming the arm and the seed."""
        if not self.seeds:
            raise GammaError(f"{self.arm} and {self.baseline} have no seed in common")
        if len(set(self.seeds)) < len(self.seeds):
            twice = next(seed for seed in self.seeds if self.seeds.count(seed) > 1)
            raise GammaError(f"{self.arm}: seed {twice} is there twice; compare each seed once")
        for name, field in ((self.baseline, "baseline_scores"), (self.arm, "arm_scores")):
            scores = np.asarray(getattr(self, field), dtype=np.float64)
            object.__setattr__(self, field, scores)
            if scores.shape != (len(self.seeds),):
                raise GammaError(
                    f"{name}: scores of shape {scores.shape} for {len(self.seeds)} seeds"
                )
            self._need_numbers(name, scores[:, None])
        for number, items in enumerate(self.sets):
            self._check_set(number, items)
        self._check_agreement()

    @property
    def differences(self) -> np.ndarray:
        """Arm minus baseline, of each seed."""
        return self.arm_scores - self.baseline_scores

    @property
    def items(self) -> int:
        """How many items all sets have together."""
        return sum(items.items for items in self.sets)

    def _need_numbers(self, name: str, values: np.ndarray) -> None:
        for seed, row in zip(self.seeds, values.reshape(len(self.seeds), -1), strict=True):
            if not np.isfinite(row).all():
                wrong = row[~np.isfinite(row)][0]
                raise GammaError(
                    f"{name}, seed {seed}: a score is {wrong}, not a number; look at this run, "
                    "and leave the seed out of all arms if it failed"
                )

    def _check_set(self, number: int, items: PairedSet) -> None:
        if items.baseline_sums.shape != items.arm_sums.shape:
            raise GammaError(
                f"{self.arm} and {self.baseline}: set {number} has items of shapes "
                f"{items.arm_sums.shape} and {items.baseline_sums.shape}; compare the same items"
            )
        if items.baseline_sums.ndim != 3 or len(items.baseline_sums) != len(self.seeds):
            raise GammaError(
                f"{self.arm}: the items of set {number} have shape {items.baseline_sums.shape}, "
                f"expected ({len(self.seeds)} seeds, items, sums)"
            )
        if items.items < 2:
            raise GammaError(
                f"{self.arm}: set {number} has {items.items} items, expected 2 or more"
            )
        self._need_numbers(self.baseline, items.baseline_sums)
        self._need_numbers(self.arm, items.arm_sums)

    def _check_agreement(self) -> None:
        """Refuse items that are not those of the scores."""
        if not self.sets:
            return
        for name, given, which in (
            (self.baseline, self.baseline_scores, "baseline_sums"),
            (self.arm, self.arm_scores, "arm_sums"),
        ):
            found = np.mean(
                [s.scale * s.statistic.score(getattr(s, which).sum(axis=1)) for s in self.sets],
                axis=0,
            )
            self._need_numbers(name, found)
            most = CLOSE * (np.abs(given) + 0.5 * max(s.scale for s in self.sets))
            for seed, score, from_items in zip(self.seeds, given, found, strict=True):
                if abs(score - from_items) > most[self.seeds.index(seed)]:
                    raise GammaError(
                        f"{name}, seed {seed}: the score is {score:g} and its items give "
                        f"{from_items:g}; give the items of this score, or the score alone"
                    )
