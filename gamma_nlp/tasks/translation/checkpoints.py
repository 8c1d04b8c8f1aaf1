"""Find and load one of a run's models: the final one, the best, the last, or one by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.files.manifest import need_whole
from gamma_nlp.files.read import read_json
from gamma_nlp.hf.hub import read_settings
from gamma_nlp.hf.limits import check_counts
from gamma_nlp.hf.models import keep_positions, more_layers
from gamma_nlp.tasks.run.checkpoints import checkpoints

AVERAGED = "averaged"
"""Where a run's folder keeps the final model."""


def find_model(run: str | os.PathLike[str], name: str | None = None) -> Path:
    """Return the folder of one of a run's models.

    Only folder names are taken from the run's files, never paths: the run may have been moved.

    Args:
        run: The run's folder.
        name: ``averaged``; ``best`` by the metric that the Trainer watched; ``last``;
            ``checkpoint-N``; or ``None`` for ``averaged``, or ``last`` if that does not exist yet.

    Raises:
        GammaError: The run has no such model; the message names those that it has.
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


def load_saved(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load the encoder-decoder model in a folder from :func:`find_model`, on the CPU.

    Args:
        folder: The folder.
        trust_remote_code: Run the Python files that it brings. No recipe writes any.

    Raises:
        GammaError: It cannot be loaded, or its weights are of another model than its config.
    """
    from transformers import AutoModelForSeq2SeqLM

    need_whole(folder, "load", "give another --checkpoint")
    _check_config(folder, trust_remote_code)
    try:
        # local_files_only: transformers would ask the hub for a folder that does not exist.
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
    except Exception as error:  # a damaged file fails in many ways
        reason = one_line(error, file=True)
        raise GammaError(f"the model in {folder} cannot be loaded: {reason}") from error
    if missing := sorted(found["missing_keys"]):
        raise GammaError(
            f"the weights in {folder} lack {listed(missing)}, which would be random; is the "
            "file of another model?"
        )
    if surplus := more_layers(model, found["unexpected_keys"]):
        raise GammaError(
            f"the weights in {folder} are of a model with more layers than its config says: it has "
            f"no place for {listed(surplus)}; give back the config.json that they were saved with"
        )
    keep_positions(model)
    return model


def _check_config(folder: Path, trust_remote_code: bool) -> None:
    """Refuse a config that would never be built, or that brings code of its own."""
    settings = read_settings(folder / "config.json")
    check_counts(folder / "config.json", settings)
    if settings.get("auto_map") and not trust_remote_code:
        raise GammaError(
            f"{folder / 'config.json'} brings its own Python files (auto_map), which are not run; "
            "if you trust who made them, add --trust-remote-code"
        )


def _best(last: Path) -> str:
    """Return the name of the best checkpoint so far."""
    state = read_json(last / "trainer_state.json")
    path = state.get("best_model_checkpoint") if isinstance(state, dict) else None
    if not path:
        raise GammaError(f"{last} does not say which checkpoint is best; give one by its name")
    return str(path).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
