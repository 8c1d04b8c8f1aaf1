"""The Trainer of the fine-tuning recipe: length buckets, and what became of every example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.batches.by_length import BucketSampler, SortedSampler
from gamma_nlp.hf.batches.shapes import Shape
from gamma_nlp.hf.graphs.trainer import GraphedSteps
from gamma_nlp.hf.trainer import GammaTrainer
from gamma_nlp.tasks.glue.metrics import GlueMetric
from gamma_nlp.tasks.glue.tasks import GlueTask
from gamma_nlp.tasks.run.counts import RunCounts
from gamma_nlp.tasks.run.finite import FiniteRun, OutputNotFinite
from gamma_nlp.tasks.run.items import Items, Source, items_file
from gamma_nlp.tasks.run.saving import WholeCheckpoints
from gamma_nlp.tasks.run.speed import CompileTime

BY_LENGTH = "group_by_length"
STATISTICS = {
    "accuracy": ("mean", ("correct",)),
    "f1": ("f1", ("label", "prediction")),
    "matthews_correlation": ("matthews", ("label", "prediction")),
    "pearson": ("pearson", ("label", "prediction")),
    "loss": ("mean", ("loss",)),
}
"""How each score follows from the columns of the items; Spearman's follows from no sums."""


class FinetuneTrainer(
    FiniteRun, WholeCheckpoints, RunCounts, CompileTime, GraphedSteps, GammaTrainer
):
    """GammaTrainer with length buckets, that stops where its numbers are none.

    Args:
        shapes: Of training batches on one process, sentences and width; None for as many as come.

    Attributes:
        answers: Of the last evaluation, by the prefix of its scores: logits and labels.
    """

    data_collator: Any

    def __init__(self, *args: Any, shapes: Sequence[Shape] | None = None, **kwargs: Any) -> None:
        self.answers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.shapes = shapes
        super().__init__(*args, **kwargs)

    def counted(self, inputs: Any) -> torch.Tensor:
        mask = super().counted(inputs)
        if self.shapes is None:
            return mask
        return mask * inputs["labels"].ne(-100).unsqueeze(1)  # not of rows without a sentence

    def get_train_dataloader(self) -> Any:
        if self.shapes is None:
            return super().get_train_dataloader()
        plain = self.data_collator  # evaluation pads to its own widths
        self.data_collator = plain.shaped(self.shapes)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().evaluation_loop(dataloader, *args, **kwargs)
        order = self._eval_order(dataloader.dataset)
        logits, labels = (_in_order(x, order) for x in (found.predictions, found.label_ids))
        self.answers[kwargs.get("metric_key_prefix", "eval")] = logits, labels
        return found

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != BY_LENGTH:
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return BucketSampler(data.lengths, batch * self.args.world_size, seed, self.shapes)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.args.train_sampling_strategy != BY_LENGTH:
            return super()._get_eval_sampler(eval_dataset)
        return SortedSampler(eval_dataset.lengths)

    def _eval_order(self, data: Any) -> np.ndarray:
        """Return the number of the example that each row of an evaluation is of."""
        if self.args.train_sampling_strategy != BY_LENGTH:
            return np.arange(len(data))
        return np.asarray(SortedSampler(data.lengths).order)


def outcomes(
    trainer: FinetuneTrainer, sets: Mapping[str, Any], task: GlueTask
) -> tuple[dict[str, Items], dict[str, Source]]:
    """Return what became of every example of each evaluation set, and how scores follow from it.

    Columns: ``loss`` (nats; the squared error of a score), ``label``, ``prediction`` and, for
    classes, ``correct``.

    Args:
        trainer: After training.
        sets: The evaluation sets by name, each with its ``labels`` in order.
        task: What they are of.

    Raises:
        GammaError: The labels that the Trainer gave back are not those of the set, in its order.
    """
    items: dict[str, Items] = {}
    sources: dict[str, Source] = {}
    scores = trainer.state.log_history
    for name, data in sets.items():
        prefix = "eval" if len(sets) == 1 else f"eval_{name}"
        if prefix not in trainer.answers:  # a resumed run with no step left did not evaluate
            trainer.predict(data, metric_key_prefix=prefix)
        logits, labels = trainer.answers[prefix]
        if not np.array_equal(labels, np.asarray(data.labels, dtype=labels.dtype)):
            raise GammaError(
                f"{task.name}: the answers on {name} are in another order than its rows"
            )
        columns = _columns(logits, labels, task)
        items[name] = Items(ids=np.arange(len(labels)).astype(str), columns=columns)
        for score in (*task.metrics, "loss"):
            key = f"{prefix}_{score}"
            if score not in STATISTICS or (score == "loss" and not _is_mean(columns, scores, key)):
                continue
            statistic, read = STATISTICS[score]
            place = f"final.{key}"
            sources[place] = Source(file=items_file(name), statistic=statistic, columns=read)
    return items, sources


def _columns(logits: np.ndarray, labels: np.ndarray, task: GlueTask) -> dict[str, np.ndarray]:
    logits = logits.astype(np.float64)
    if task.regression:
        guesses = logits.reshape(-1)
        loss = (guesses - labels) ** 2
        return {"label": labels, "prediction": guesses, "loss": loss.astype(np.float32)}
    top = logits.max(axis=-1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=-1))
    loss = log_sum - np.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    guesses = logits.argmax(axis=-1)
    small = np.uint8
    return {
        "label": labels.astype(small),
        "prediction": guesses.astype(small),
        "correct": (guesses == labels).astype(small),
        "loss": loss.astype(np.float32),
    }


def _is_mean(columns: Mapping[str, np.ndarray], log: list[dict[str, float]], key: str) -> bool:
    """Return whether the last score ``key`` is the mean loss: a model may compute another."""
    logged = [entry[key] for entry in log if key in entry]
    mean = float(columns["loss"].mean())
    return bool(logged) and bool(np.isclose(logged[-1], mean, rtol=1e-3, atol=1e-6))


def scorer(task: GlueTask) -> Any:
    """Return what a Trainer takes as ``compute_metrics``."""
    metric = GlueMetric(task)

    def score(prediction: Any) -> dict[str, float]:
        logits = _first(prediction.predictions)
        if not np.isfinite(logits).all():  # the largest of nan is class 0
            raise OutputNotFinite
        guesses = logits.reshape(-1) if task.regression else logits.argmax(axis=-1)
        scores = metric.compute(predictions=guesses, references=prediction.label_ids)
        return dict(scores or {})

    return score


def _first(output: Any) -> np.ndarray:
    return np.asarray(output[0] if isinstance(output, tuple) else output)


def _in_order(values: Any, order: np.ndarray) -> np.ndarray:
    """Put the rows of an evaluation, which ran in ``order``, back into that of the set."""
    rows = _first(values)
    back = np.empty_like(rows)
    back[order] = rows
    return back
