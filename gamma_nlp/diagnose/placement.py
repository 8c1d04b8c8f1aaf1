"""Place the gains of a checkpoint: by a run's own gain table, or by building its model."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from gamma_nlp.diagnose.checkpoints import Checkpoint
from gamma_nlp.diagnose.names import Sources, by_model, by_name
from gamma_nlp.errors import GammaError, listed, one_line, shown
from gamma_nlp.files.read import read_json
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.placement import categorize
from gamma_nlp.gains.table import Gain, GainTable
from gamma_nlp.hf.models import load_model, with_random_weights

TABLE = "gain_table.json"
"""What GammaTrainer writes into the folder of a run."""
CONFIG = "config.json"
MOST_BUILT = 500_000_000
"""Parameters of a model that is built with values, if it cannot be placed without."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The gains of one checkpoint.

    Attributes:
        table: Their categories.
        sources: The stored tensors that hold each of them.
        file: The gain table or config that says so.
        left_out: Gains that the model has and a base model's checkpoint has not.
    """

    table: GainTable
    sources: Sources
    file: Path
    left_out: tuple[str, ...] = ()


class Placer:
    """Places the gains of checkpoints; each config's model is built once."""

    def __init__(self, config: Path | None = None, *, trust_remote_code: bool = False) -> None:
        self._config = config / CONFIG if config is not None and config.is_dir() else config
        self._trust = trust_remote_code
        self._built: dict[str, tuple[nn.Module, GainTable]] = {}

    def place(self, checkpoint: Checkpoint) -> Placed:
        """Place the gains of one checkpoint.

        Raises:
            GammaError: Nothing says what its tensors are, or what says so is of another model.
        """
        if self._config is not None:
            if _is_table(self._config):
                return self._by_table(checkpoint, self._config)
            return self._by_config(checkpoint, self._config)
        config = checkpoint.folder / CONFIG
        tables = [folder / TABLE for folder in (checkpoint.folder, checkpoint.folder.parent)]
        table = next((path for path in tables if path.is_file()), None)
        if table is not None:
            try:
                return self._by_table(checkpoint, table)
            except GammaError:
                if not config.is_file():
                    raise
        if not config.is_file():
            raise GammaError(
                f"{checkpoint.path}: neither {CONFIG} nor {TABLE} beside it says which tensors are "
                f"gains; add --config FILE, the {CONFIG} of its model or the {TABLE} of its run"
            )
        return self._by_config(checkpoint, config)

    def _by_table(self, checkpoint: Checkpoint, path: Path) -> Placed:
        table = read_table(path)
        wanted = [gain.name for gain in table]
        sources = by_name(wanted, checkpoint.weights.names)
        missing = [name for name in wanted if name not in sources]
        if missing:
            raise self._another_model(checkpoint, path, missing, len(wanted))
        return Placed(table=table, sources=sources, file=path)

    def _by_config(self, checkpoint: Checkpoint, path: Path) -> Placed:
        model, table = self._model(path)
        wanted = [gain.name for gain in table]
        sources = by_model(model, wanted, checkpoint.weights.names)
        missing = [name for name in wanted if name not in sources]
        base = f"{getattr(model, 'base_model_prefix', '')}."
        if missing and (not sources or any(name.startswith(base) for name in missing)):
            raise self._another_model(checkpoint, path, missing, len(wanted))
        kept = tuple(gain for gain in table if gain.name in sources)
        table = GainTable(gains=kept, model=table.model)
        return Placed(table=table, sources=sources, file=path, left_out=tuple(missing))

    def _model(self, path: Path) -> tuple[nn.Module, GainTable]:
        key = repr(read_json(path))
        if key not in self._built:
            source = path if path.name != CONFIG else path.parent  # where its own code would lie
            model = load_model(source, trust_remote_code=self._trust)
            self._built[key] = (model, self._placed(model, os.fspath(source), path))
        return self._built[key]

    def _placed(self, model: nn.Module, source: str, path: Path) -> GainTable:
        try:
            table = categorize(model)
        except GammaError as error:
            table, why = None, error
        if table is None or any(gain.category is None for gain in table):
            # Some models look at values, or take an image only where there is one.
            if sum(parameter.numel() for parameter in model.parameters()) <= MOST_BUILT:
                model = with_random_weights(source, trust_remote_code=self._trust)
                table = categorize(model)
            elif table is None:
                raise GammaError(
                    f"{path} alone does not place the gains of {type(model).__name__} ({why}); "
                    "write categorize(model, inputs).to_json() of the loaded model to a file, and "
                    "add --config FILE"
                ) from why
        if not len(table):
            raise GammaError(f"{path}: {table.model} has no gains")
        return table

    def _another_model(
        self, checkpoint: Checkpoint, path: Path, missing: list[str], wanted: int
    ) -> GammaError:
        verb = "add" if self._config is None else "give"
        return GammaError(
            f"{checkpoint.path} lacks {listed(missing)} ({len(missing)} of the {wanted} gains of "
            f"{path}), so it is not whole, or of another model; {verb} --config FILE, its own "
            "model's config.json"
        )


def _is_table(path: Path) -> bool:
    content = read_json(path)
    return isinstance(content, dict) and "gains" in content


def read_table(path: Path) -> GainTable:
    """Return the gain table of a ``gain_table.json``.

    Raises:
        GammaError: It is none, or has no gains.
    """
    content = read_json(path)
    try:
        rows = [_gain(entry) for entry in content["gains"]]
        model = content["model"]
        names = [gain.name for gain in rows]
        if not isinstance(model, str) or len(set(names)) < len(names):
            raise ValueError("its model is no text, or a name is there twice")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise GammaError(
            f"{path} is no gain table ({one_line(error, 120)}); add --config FILE, the "
            "model's config.json"
        ) from error
    if not rows:
        raise GammaError(f"{path}: {shown(model)} has no gains")
    return GainTable(gains=tuple(rows), model=model)


def _gain(entry: dict[str, Any]) -> Gain:
    values = {field.name: entry[field.name] for field in fields(Gain)}
    category, offset, numel = (values.pop(name) for name in ("category", "offset", "numel"))
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} of a gain is {shown(value)}, not text")
    if offset not in (0, 1) or type(numel) is not int:
        raise ValueError(
            f"{shown(values['name'])} has offset {shown(offset)} and numel {shown(numel)}"
        )
    place = None if category is None else Category(category)
    return Gain(**values, category=place, offset=float(offset), numel=numel)
