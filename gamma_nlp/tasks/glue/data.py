"""GLUE from its official TSV files, read strictly, or from the hub.

Every row must have the fields that its file promises; anything else is an error that names the
file and the line. Quotation marks are text, never quoting.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamma_nlp.errors import GammaError, need, shown
from gamma_nlp.files.read import read_bytes, text_lines
from gamma_nlp.hf.hub import load_hub_dataset
from gamma_nlp.tasks.glue.opinions import write_sst2
from gamma_nlp.tasks.glue.tasks import GlueTask, glue_task

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)

HUB_DATASET = "nyu-mll/glue"
GENERATED = "opinions"
_MOST_RAGGED_ROWS = 20


def load_glue(
    task: str | GlueTask,
    data: str | os.PathLike[str] | None = None,
    *,
    splits: Sequence[str] | None = None,
) -> datasets.DatasetDict:
    """Read a GLUE task.

    Args:
        task: ``sst2``, ``cola``, ``mrpc``, ``rte``, ``qnli``, ``qqp``, ``stsb``, ``mnli`` or
            ``wnli``.
        data: A folder with the official files: the GLUE folder (with ``SST-2/`` inside) or the
            task's own. ``None`` or ``"hub"`` takes ``nyu-mll/glue`` from the Hugging Face hub,
            ``"opinions"`` a corpus in the form of SST-2 that a grammar makes: 4,000 sentences to
            train on, 1,000 to evaluate.
        splits: Which splits; default ``train`` and every validation split. Test rows have
            label -1, as on the hub.

    Returns:
        Datasets with the hub's columns: the text column or columns, ``label`` and ``idx``.

    Raises:
        GammaError: The folder, a file or a column is missing, a row or a label is malformed, or
            the hub cannot be reached.

    Example:
        >>> import tempfile
        >>> from gamma_nlp.tasks.glue.opinions import write_sst2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = write_sst2(f"{folder}/SST-2", train=8, dev=4)
        ...     load_glue("sst2", folder)["validation"].column_names
        ['sentence', 'label', 'idx']
    """
    need("datasets", "hf", "reading GLUE needs")
    if isinstance(task, str):
        task = glue_task(task)
    wanted = tuple(splits or ("train", *task.evaluation_splits))
    for split in wanted:
        if split not in task.files:
            raise GammaError(f"{task.name} has no split {split!r}; it has {', '.join(task.files)}")
    if data is None or str(data) == "hub":
        return _from_hub(task, wanted)
    if str(data) == GENERATED:
        with tempfile.TemporaryDirectory() as made:
            if task.name != "sst2":
                raise GammaError(f"data {GENERATED!r} is made for sst2 only, not for {task.name}")
            return _from_files(task, write_sst2(made, train=4000, dev=1000, seed=1), wanted)
    return _from_files(task, find_folder(task, data, wanted), wanted)


def _from_files(task: GlueTask, folder: Path, wanted: Sequence[str]) -> datasets.DatasetDict:
    import datasets

    label = (
        datasets.Value("float32")
        if task.regression
        else datasets.ClassLabel(names=list(task.labels))
    )
    features = datasets.Features(
        {name: datasets.Value("string") for name in task.texts}
        | {"label": label, "idx": datasets.Value("int32")}
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                read_tsv(folder / task.files[split], task, labelled=not split.startswith("test")),
                features=features,
            )
            for split in wanted
        }
    )


def check_labels(data: Mapping[str, Any], task: GlueTask) -> None:
    """Refuse training examples that teach nothing, and doubt a score that says nothing.

    Args:
        data: The splits, as :func:`load_glue` returns them.
        task: The task.

    Raises:
        GammaError: All training examples have one label.
    """
    for split in ("train", *task.evaluation_splits):
        rows = data[split]
        if len(only := set(rows["label"])) > 1:
            continue
        label = next(iter(only)) if task.regression else task.labels[next(iter(only))]
        what = f"all {len(rows)} examples of {split} have the label {label!r}"
        if split == "train":
            raise GammaError(f"{what}: there is nothing to learn; give more of the data")
        log.warning("%s, so a model that always says it has the best score", what)
    for split in task.evaluation_splits:
        if all(data[split][name][:] == data["train"][name][:] for name in task.texts):
            log.warning("%s holds the training examples: its score is not that of new text", split)


def find_folder(
    task: GlueTask, data: str | os.PathLike[str], splits: Sequence[str] = ("train",)
) -> Path:
    """Return the folder with the task's files, given that folder or one around it.

    Raises:
        GammaError: There is none; the message lists what was looked for.
    """
    root = Path(data).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise GammaError(
            f"data folder {str(root)!r} {what}; give the folder that holds {task.folder}/, or 'hub'"
        )
    for folder in (root / task.folder, root / "glue" / task.folder, root):
        if (folder / task.files["train"]).is_file() or folder.name.lower() == task.folder.lower():
            missing = [
                task.files[split] for split in splits if not (folder / task.files[split]).is_file()
            ]
            if not missing:
                return folder
            if folder.is_dir():
                raise GammaError(f"{folder} lacks {', '.join(missing)}, needed for {task.name}")
    names = " and ".join(task.files[split] for split in splits)
    raise GammaError(
        f"no {task.name} data in {root}: looked for {names} in {root / task.folder}, "
        f"{root / 'glue' / task.folder} and {root} itself"
    )


def read_tsv(path: Path, task: GlueTask, *, labelled: bool = True) -> dict[str, list[Any]]:
    """Read one official file into columns ``idx``, ``label`` and the task's texts.

    Raises:
        GammaError: The file is malformed; names it and the line (from 1, header included).
    """
    rows = _lines(path)
    bare = labelled and bool(task.bare_columns)
    if bare:
        columns = list(task.bare_columns)
    else:
        first = next(rows, None)
        if first is None:
            raise GammaError(f"{path} is empty; expected a header row and examples")
        columns = first[1].split("\t")
    texts = {name: _position(path, columns, column, task) for name, column in task.texts.items()}
    label_at = _position(path, columns, task.label_column, task) if labelled else -1
    classes = {text: i for i, text in enumerate(task.spellings or task.labels)}
    found: dict[str, list[Any]] = {name: [] for name in texts}
    labels: list[Any] = []
    ragged: list[int] = []
    for number, line in rows:
        fields = line.split("\t")
        if len(fields) != len(columns):
            if task.ragged and len(fields) < len(columns) and len(ragged) < _MOST_RAGGED_ROWS:
                ragged.append(number)
                continue
            raise GammaError(
                f"{path}:{number}: {len(fields)} tab-separated field(s), expected {len(columns)} "
                f"({', '.join(columns)})"
            )
        if labelled:
            labels.append(_label(path, number, fields[label_at], task, classes))
        else:
            labels.append(-1)
        for name, position in texts.items():
            found[name].append(fields[position])
    if not labels:
        raise GammaError(f"{path} holds no examples" + ("" if bare else ", only a header row"))
    if ragged:
        lines = ", ".join(map(str, ragged[:5])) + (", ..." if len(ragged) > 5 else "")
        log.warning("%s: left out %d cut row(s): line %s", path, len(ragged), lines)
    return found | {"label": labels, "idx": list(range(len(labels)))}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    lines = text_lines(read_bytes(path), path)
    if not any(line.strip() for line in lines):
        raise GammaError(f"{path} is empty; expected one example a line")
    return enumerate(lines, start=1)


def _position(path: Path, columns: Sequence[str], column: str, task: GlueTask) -> int:
    if column not in columns:
        raise GammaError(
            f"{path}:1: no column {column!r} for {task.name}; the header has "
            f"{', '.join(name[:80] for name in columns[:20])}"
        )
    return columns.index(column)


def _label(
    path: Path, number: int, text: str, task: GlueTask, classes: Mapping[str, int]
) -> int | float:
    if not task.regression:
        if text in classes:
            return classes[text]
        raise GammaError(
            f"{path}:{number}: label {shown(text)}, expected {' or '.join(map(repr, classes))}"
        )
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if 0.0 <= score <= 5.0:
        return score
    raise GammaError(f"{path}:{number}: score {shown(text)}, expected a number from 0 to 5")


def _from_hub(task: GlueTask, splits: Sequence[str]) -> datasets.DatasetDict:
    import datasets

    give = "give a folder with the official TSV files: --data FOLDER"
    whole = load_hub_dataset(HUB_DATASET, task.name, otherwise=give)
    names = getattr(whole[splits[0]].features["label"], "names", None)
    if not task.regression and names != list(task.labels):
        raise GammaError(
            f"{HUB_DATASET} ({task.name}) has the labels {names}, not {list(task.labels)}; {give}"
        )
    return datasets.DatasetDict({split: whole[split] for split in splits})
