"""Which of a run's models is meant: the final one, the best, the last, or one by its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.hf.models import keep_positions
from gamma_nlp.tasks.run import folder
from gamma_nlp.tasks.run.folder import checkpoints
from gamma_nlp.tasks.run.report import evaluations
from gamma_nlp.tasks.translation.text import TranslationText

AVERAGED = "averaged"
"""Where a run's folder keeps the final model."""


def find_model(run: str | os.PathLike[str], name: str | None = None) -> Path:
    """The folder of one of a run's models.

    Only names of folders are taken from the run's files, never paths: the run may have been moved.

    Args:
        run: The run's folder.
        name: ``averaged``; ``best`` by the metric that the Trainer watched; ``last``;
            ``checkpoint-N``; or ``None`` for ``averaged``, and ``last`` where there is none yet.

    Raises:
        GammaError: The run has no such model; names those that it has.
    """
    saved = {path.name: path for path in checkpoints(run)}
    last = list(saved)[-1:]
    if (Path(run) / AVERAGED / "config.json").is_file():
        saved[AVERAGED] = Path(run) / AVERAGED
    if not saved:
        raise GammaError(f"{run} has no model yet: neither {AVERAGED} nor a whole checkpoint-N")
    if name is None:
        name = AVERAGED if AVERAGED in saved else last[0]
    elif name in ("last", "best"):
        if not last:
            raise GammaError(f"{run} has no checkpoints, only {AVERAGED}; leave out --checkpoint")
        name = _best(saved[last[0]]) if name == "best" else last[0]
    if name not in saved:
        raise GammaError(f"{run} has no {name}; it has {', '.join(saved)}")
    return saved[name]


def load_saved(folder: Path) -> Any:
    """The encoder-decoder model in a folder that :func:`find_model` gives, on the CPU.

    Raises:
        GammaError: It cannot be loaded.
    """
    from transformers import AutoModelForSeq2SeqLM

    try:
        # Not asked of the hub, as a folder that does not exist would be.
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file fails in many ways
        message = " ".join(str(error).split())[:300] or type(error).__name__
        raise GammaError(f"the model in {folder} cannot be loaded: {message}") from error
    keep_positions(model)
    return model


def _best(last: Path) -> str:
    """The name of the best checkpoint so far."""
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    path = state.get("best_model_checkpoint")
    if not path:
        raise GammaError(f"{last} does not say which checkpoint is best; give one by its name")
    return str(path).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def check_text(run: Path, text: TranslationText, data: str) -> None:
    """Refuse to go on with other ids than those that a run was trained on.

    Args:
        run: The run's folder.
        text: Read from ``data``.
        data: The prepared folder.

    Raises:
        GammaError: Subwords or vocabularies are not those of the run.
    """
    if not TranslationText.load(run).same_as(text):
        raise GammaError(
            f"data {data} has other subwords or vocabularies than output_dir {run} was trained "
            "with, so it was prepared anew; resume with the data of the run, or give another "
            "--output_dir"
        )


def is_trained(run: Path, steps: int, spent: Callable[[Sequence[Mapping[str, Any]]], bool]) -> bool:
    """Whether the last checkpoint ended training, so that only the final model and scores miss.

    Args:
        run: The run's folder, with a checkpoint.
        steps: Planned steps.
        spent: Says of the evaluations of a run whether they ended it early.

    Raises:
        GammaError: The run is finished: its results are of this checkpoint or a later step.
    """
    last = folder.checkpoints(run)[-1]
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    step, done, history = state["global_step"], -1, []
    if (run / "results.json").is_file():
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        done, history = results["steps"], results["history"]
    if done >= step:
        folder.check_unfinished(run, steps)
        if spent(history):
            raise GammaError(
                f"output_dir {run} ended at step {done} of {steps}, when its patience was spent: "
                "the run is finished; give more --patience to go on, or another --output_dir"
            )
    return step >= steps or spent(evaluations(state["log_history"]))
