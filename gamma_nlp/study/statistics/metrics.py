"""Scores as functions of sums over items, so that items can be weighted and left out cheaply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gamma_nlp.errors import GammaError, close_to, listed

NGRAMS = 4


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A score of an evaluation set: columns of items -> sums of each item -> score of the sums.

    ``sums`` takes the columns, each of shape (items,) or (items, 10) for BLEU, and returns
    (items, k). ``score`` takes sums over items, of shape (..., k), and returns shape (...), so that
    ``weights @ sums`` of many resamples is scored in one call.
    """

    name: str
    columns: tuple[str, ...]  # what the columns hold, in this order
    sums: Callable[..., np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    linear: bool = False  # the score is the mean of the first sum

    def of_items(self, *columns: np.ndarray) -> float:
        """Return the score of one run's items."""
        return float(self.score(self.item_sums(columns).sum(axis=0)))

    def item_sums(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Return what each item adds, of shape (items, k).

        Raises:
            GammaError: The columns are too many, too few, of the wrong shape or not numbers.
        """
        if len(columns) != len(self.columns):
            raise GammaError(
                f"statistic {self.name} takes the columns {listed(self.columns)}, "
                f"and {len(columns)} were given"
            )
        arrays = [np.asarray(column, dtype=np.float64) for column in columns]
        shape = (2 + 2 * NGRAMS,) if self.sums is _bleu_sums else ()
        for name, array in zip(self.columns, arrays, strict=True):
            if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
                raise GammaError(
                    f"statistic {self.name}: column {name!r} has shape {array.shape}, "
                    f"expected (items{', 10' if shape else ''})"
                )
            if not np.isfinite(array).all():
                at = int(np.argwhere(~np.isfinite(array))[0][0])
                raise GammaError(f"statistic {self.name}: item {at} of {name!r} is not a number")
        return self.sums(*arrays)


def _divide(a: np.ndarray, b: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(a), otherwise), where=b != 0)


def _stack(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=-1)


def _mean_sums(values: np.ndarray) -> np.ndarray:
    return _stack(values, np.ones_like(values))


def _ratio_score(sums: np.ndarray) -> np.ndarray:
    return _divide(sums[..., 0], sums[..., 1])


def _bleu_sums(counts: np.ndarray) -> np.ndarray:
    return counts


def _bleu_score(sums: np.ndarray, smooth: bool) -> np.ndarray:
    """Return what ``sacrebleu.BLEU.compute_bleu`` returns, for many sums at once."""
    length, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + NGRAMS], sums[..., 2 + NGRAMS :]
    logs, halvings = np.zeros(length.shape), np.ones(length.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for n in range(NGRAMS):
            found, total = matches[..., n], totals[..., n]
            if smooth:  # NIST: the k-th order without a match counts as 1 / 2^k of one
                halvings = np.where(found == 0, 2 * halvings, halvings)
                found = np.where(found == 0, 1 / halvings, found)
            logs = logs + np.log(found / total)
        short = np.where(length < reference, 1 - reference / length, 0.0)
        score = 100 * np.exp(short + logs / NGRAMS)
    none = (matches <= 0).all(axis=-1) | (totals <= 0).any(axis=-1) | (length <= 0)
    return np.where(none, 0.0, score)


def _f1_sums(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    x, y = label == 1, prediction == 1
    return _stack(2.0 * (x & y), 1.0 * x + y)


def _f1_score(sums: np.ndarray) -> np.ndarray:
    return _divide(sums[..., 0], sums[..., 1], otherwise=0.0)


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _stack(np.ones_like(x), x, y, x * x, y * y, x * y)


def _pearson_sums(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    # About the means, since a correlation does not change by a shift and rounding does.
    return _moments(label - label.mean(), prediction - prediction.mean())


def _matthews_sums(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return _moments(1.0 * (label == 1), 1.0 * (prediction == 1))


def _correlation(sums: np.ndarray, otherwise: float) -> np.ndarray:
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = count * xx - x * x, count * yy - y * y
    flat = (spread_x <= 1e-12 * count * xx) | (spread_y <= 1e-12 * count * yy)
    product = np.where(flat, 0.0, spread_x * spread_y)
    return _divide(count * xy - x * y, np.sqrt(product), otherwise)


STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic(
            name="mean", columns=("value",), sums=_mean_sums, score=_ratio_score, linear=True
        ),
        Statistic(name="ratio", columns=("above", "below"), sums=_stack, score=_ratio_score),
        Statistic(
            name="bleu",
            columns=("counts",),
            sums=_bleu_sums,
            score=lambda sums: _bleu_score(sums, smooth=False),
        ),
        Statistic(
            name="sacrebleu",
            columns=("counts",),
            sums=_bleu_sums,
            score=lambda sums: _bleu_score(sums, smooth=True),
        ),
        Statistic(name="f1", columns=("label", "prediction"), sums=_f1_sums, score=_f1_score),
        Statistic(
            name="matthews",
            columns=("label", "prediction"),
            sums=_matthews_sums,
            score=lambda sums: _correlation(sums, otherwise=0.0),
        ),
        Statistic(
            name="pearson",
            columns=("label", "prediction"),
            sums=_pearson_sums,
            score=lambda sums: _correlation(sums, otherwise=np.nan),
        ),
    )
}


def statistic(name: str) -> Statistic:
    """Return a statistic by its name in ``results.json``.

    Raises:
        GammaError: There is none of this name.
    """
    if name not in STATISTICS:
        raise GammaError(
            f"no statistic {name!r}{close_to(name, STATISTICS)}; there are {listed(STATISTICS, 9)}"
        )
    return STATISTICS[name]
