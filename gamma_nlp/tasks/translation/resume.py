"""Whether a translation run may continue: with the text it was trained on, if a step is left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.folder import check_unfinished, checkpoints
from gamma_nlp.tasks.run.report import evaluations
from gamma_nlp.tasks.translation.text import TranslationText


def check_text(run: Path, text: TranslationText, data: str) -> None:
    """Raise if a run would continue with other token ids than it was trained with.

    Args:
        run: The run's folder.
        text: Read from ``data``.
        data: The prepared folder.

    Raises:
        GammaError: Subwords or vocabularies differ from the run's.
    """
    if not TranslationText.load(run).same_as(text):
        raise GammaError(
            f"data {data} has other subwords or vocabularies than output_dir {run} was trained "
            "with, so it was prepared again; resume with the data of the run, or give another "
            "--output_dir"
        )


def is_trained(run: Path, steps: int, spent: Callable[[Sequence[Mapping[str, Any]]], bool]) -> bool:
    """Return whether training is over, so that only the final model and the scores are missing.

    Args:
        run: The run's folder, with a checkpoint.
        steps: Planned steps.
        spent: Tells from a run's evaluations whether its patience ended it.

    Raises:
        GammaError: The run is finished: its results are from this checkpoint or a later step.
    """
    last = checkpoints(run)[-1]
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    step, done, history = state["global_step"], -1, []
    if (run / "results.json").is_file():
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        done, history = results["steps"], results["history"]
    if done >= step:
        check_unfinished(run, steps)
        if spent(history):
            raise GammaError(
                f"output_dir {run} ended at step {done} of {steps}, when its patience was spent: "
                "the run is finished; give more --patience to continue, or another --output_dir"
            )
    return step >= steps or spent(evaluations(state["log_history"]))
