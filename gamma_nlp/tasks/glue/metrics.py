"""The scores GLUE defines for each task, as an ``evaluate.Metric`` that needs no network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gamma_nlp.errors import GammaError, need
from gamma_nlp.tasks.glue.tasks import GlueTask, glue_task

datasets = need("datasets", "hf", "GLUE's scores need")
evaluate: Any = need("evaluate", "hf", "GLUE's scores need")


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the share of equal entries; both of shape (examples,)."""
    return float(np.mean(predictions == references))


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the F1 of class 1; 0 where nothing was predicted or present."""
    hits = np.sum((predictions == 1) & (references == 1))
    total = np.sum(predictions == 1) + np.sum(references == 1)
    return float(2 * hits / total) if total else 0.0


def matthews_correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the correlation of two binary vectors; 0 where either is constant, by convention."""
    found = pearson(predictions == 1, references == 1)
    return 0.0 if math.isnan(found) else found


def pearson(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the linear correlation; nan where either side is constant or holds nan."""
    x = np.asarray(predictions, dtype=np.float64)
    y = np.asarray(references, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    # Not by the variance: the mean of equal numbers may differ from them by a rounding.
    if not np.ptp(x) or not np.ptp(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(np.sum(x * y) / (np.linalg.norm(x) * np.linalg.norm(y)))


def spearman(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the correlation of the ranks, ties sharing their mean rank; nan where one is nan."""
    if not (np.isfinite(predictions).all() and np.isfinite(references).all()):
        return math.nan
    return pearson(_ranks(predictions), _ranks(references))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse])


_Metric: Any = evaluate.Metric


class GlueMetric(_Metric):
    """GLUE's scores of one task: ``GlueMetric("cola").compute(predictions=..., references=...)``.

    CoLA: ``matthews_correlation``; MRPC and QQP: ``accuracy`` and ``f1``; STS-B: ``pearson`` and
    ``spearman``; every other task: ``accuracy``. All are fractions, not per cent. CoLA reports
    accuracy as well as its score.
    """

    def __init__(self, task: str | GlueTask, **kwargs: Any) -> None:
        self.task = glue_task(task) if isinstance(task, str) else task
        # In memory: the default writes an Arrow file to the user's cache on every call.
        super().__init__(config_name=self.task.name, **({"keep_in_memory": True} | kwargs))

    def _info(self) -> Any:
        kind = "float32" if self.task.regression else "int64"
        return evaluate.MetricInfo(
            description="The scores that GLUE defines for each of its tasks.",
            citation="Wang et al., GLUE (arXiv:1804.07461)",
            inputs_description="predictions and references: one class index or score an example",
            features=datasets.Features(
                {"predictions": datasets.Value(kind), "references": datasets.Value(kind)}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        x, y = np.asarray(predictions), np.asarray(references)
        self._check(x, y)
        if self.task.name == "stsb":
            return {"pearson": pearson(x, y), "spearman": spearman(x, y)}
        scores = {"accuracy": accuracy(x, y)}
        if self.task.name == "cola":
            scores["matthews_correlation"] = matthews_correlation(x, y)
        if self.task.name in ("mrpc", "qqp"):
            scores["f1"] = f1(x, y)
        return scores

    def _check(self, predictions: np.ndarray, references: np.ndarray) -> None:
        """Refuse what has no score: rows without labels, and guesses that are no numbers."""
        name = self.task.name
        if not len(references):
            raise GammaError(f"{name}: no examples, so there is no score")
        if not np.isfinite(predictions).all():
            raise GammaError(f"{name}: a prediction is not a number (nan), so there is no score")
        if self.task.regression:
            if not np.ptp(predictions):
                raise GammaError(
                    f"{name}: all {len(predictions)} predictions are {predictions[0]:g}, so there "
                    "is no correlation; if the model was trained, it has collapsed: try a lower "
                    "learning rate"
                )
            known = (references >= 0) & (references <= 5)
            what = "a score from 0 to 5"
        else:
            known = np.isin(references, np.arange(self.task.num_labels))
            what = f"a class from 0 to {self.task.num_labels - 1}"
        if not known.all():
            wrong = references[~known]
            raise GammaError(
                f"{name}: {len(wrong)} of {len(references)} rows have label {wrong[0]:g} and not "
                f"{what}; GLUE keeps the labels of its test sets (-1 stands for them), so score a "
                "validation set"
            )
