"""The GLUE tasks: columns, labels and files of each, and the score that ranks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gamma_nlp.errors import GammaError


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """One GLUE task as its official TSV files lay it out.

    Attributes:
        name: The task's name on the hub: ``sst2``, ``cola``, ...
        folder: The folder of the official download: ``SST-2``, ``CoLA``, ...
        texts: Name in our dataset (the hub's) -> column in the TSV file.
        label_column: Column of the TSV file that holds the label.
        labels: The label's spellings in class order; empty for a score (STS-B).
        spellings: How the TSV file writes each class, where that is not its name.
        files: Split -> file name.
        bare_columns: The columns of files without a header row (CoLA's train and dev).
        metrics: The scores that GLUE defines; the first is that by which checkpoints are ranked.
        ragged: Whether a line break cut a few rows of the official file in two; they are left out,
            as in the hub's copy.
    """

    name: str
    folder: str
    texts: Mapping[str, str]
    label_column: str = "label"
    labels: tuple[str, ...]
    spellings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    )
    bare_columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    ragged: bool = False

    @property
    def metric(self) -> str:
        return self.metrics[0]

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def num_labels(self) -> int:
        return len(self.labels) or 1

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        return tuple(split for split in self.files if split.startswith("validation"))


_PAIR = {"sentence1": "sentence1", "sentence2": "sentence2"}
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: Mapping[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            name="sst2",
            folder="SST-2",
            texts={"sentence": "sentence"},
            labels=("negative", "positive"),
            spellings=("0", "1"),
        ),
        GlueTask(
            name="cola",
            folder="CoLA",
            texts={"sentence": "sentence"},
            labels=("unacceptable", "acceptable"),
            spellings=("0", "1"),
            bare_columns=("source", "label", "mark", "sentence"),
            metrics=("matthews_correlation", "accuracy"),
        ),
        GlueTask(
            name="mrpc",
            folder="MRPC",
            texts={"sentence1": "#1 String", "sentence2": "#2 String"},
            label_column="Quality",
            labels=("not_equivalent", "equivalent"),
            spellings=("0", "1"),
            metrics=("accuracy", "f1"),
        ),
        GlueTask(name="rte", folder="RTE", texts=_PAIR, labels=_ENTAILMENT),
        GlueTask(
            name="qnli",
            folder="QNLI",
            texts={"question": "question", "sentence": "sentence"},
            labels=_ENTAILMENT,
        ),
        GlueTask(
            name="wnli",
            folder="WNLI",
            texts=_PAIR,
            labels=("not_entailment", "entailment"),
            spellings=("0", "1"),
        ),
        GlueTask(
            name="qqp",
            folder="QQP",
            texts={"question1": "question1", "question2": "question2"},
            label_column="is_duplicate",
            labels=("not_duplicate", "duplicate"),
            spellings=("0", "1"),
            metrics=("accuracy", "f1"),
            ragged=True,
        ),
        GlueTask(
            name="stsb",
            folder="STS-B",
            texts=_PAIR,
            label_column="score",
            labels=(),
            metrics=("pearson", "spearman"),
        ),
        GlueTask(
            name="mnli",
            folder="MNLI",
            texts={"premise": "sentence1", "hypothesis": "sentence2"},
            label_column="gold_label",
            labels=("entailment", "neutral", "contradiction"),
            files={
                "train": "train.tsv",
                "validation_matched": "dev_matched.tsv",
                "validation_mismatched": "dev_mismatched.tsv",
                "test_matched": "test_matched.tsv",
                "test_mismatched": "test_mismatched.tsv",
            },
        ),
    )
}


def glue_task(name: str) -> GlueTask:
    """Return the task of that name; case and hyphens do not matter (``SST-2`` is ``sst2``).

    Raises:
        GammaError: No such task.
    """
    task = TASKS.get(name.lower().replace("-", "").replace("_", ""))
    if task is None:
        raise GammaError(f"task {name!r} is not a GLUE task; choose one of {', '.join(TASKS)}")
    return task
