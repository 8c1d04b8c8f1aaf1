"""What a run's decay does to each category of gains, and whether two runs decay alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gamma_nlp.decay.assign import Decay, assign, spared_in
from gamma_nlp.decay.optimizer_doses import optimizer_doses
from gamma_nlp.draw.drawing import draw
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category
from gamma_nlp.tasks.run.identity import digest
from gamma_nlp.wrappers import unwrap_optimizer


def planned(
    trainer: Any, rates: Sequence[float], data: Mapping[str, str], *, picture: bool = False
) -> dict[str, Any]:
    """Return what a run would do, from a Trainer that is ready to train and takes no step.

    Args:
        trainer: With its ``weight_decay`` settled.
        rates: The learning rate of every step.
        data: A digest of each split.
        picture: Draw the model as well: ``picture``, an SVG; ``None`` where it cannot be.
    """
    trainer.create_optimizer()
    drawn = {"picture": _picture(trainer.model)} if picture else {}
    return {
        **drawn,
        "model": type(trainer.model).__name__,
        "parameters": trainer.model.num_parameters(),
        "steps": len(rates),
        "sum_of_learning_rates": math.fsum(rates),
        "weight_decay": trainer.args.weight_decay,
        "dose": doses(trainer, rates),
        "groups": groups(trainer),
        "data": dict(data),
    }


def _picture(model: Any) -> str | None:
    try:
        return draw(model).to_svg()
    except GammaError:  # its gains come from a name table, and it cannot be run on made-up inputs
        return None


def groups(trainer: Any) -> str:
    """Return a short text that is equal for two runs that decay every parameter alike."""
    decays = sorted(_decays(trainer).items())
    return digest(f"{name} {dataclasses.astuple(decay)}" for name, decay in decays)


def doses(trainer: Any, rates: Sequence[float]) -> dict[str, Any]:
    """Return number of gains, coefficient and dose per category; a pair where gains differ."""
    by_name = optimizer_doses(unwrap_optimizer(trainer.optimizer), rates)
    applied = _decays(trainer)
    found: dict[str, Any] = {}
    for category in Category:
        names = [gain.name for gain in trainer.gain_table if gain.category is category]
        if names:
            known = {by_name.get(name) for name in names} - {None}
            found[category.value] = {
                "gains": len(names),
                "coefficient": _span({applied[name].coefficient for name in names}),
                # Gains of other values are rounded otherwise, in digits that mean nothing.
                "dose": _span({float(f"{value:.4g}") for value in known if value is not None}),
            }
    return found


def gain_lines(results: Mapping[str, Any]) -> list[str]:
    """Return a line for each category of a finished run: coefficient, dose, size of the gains."""
    lines = []
    for category, decay in results["dose"].items():
        norm = results["gain_norm"].get(category, {})
        lines.append(
            f"  {category:12} {decay['gains']:3} gains  coefficient {_short(decay['coefficient'])}"
            f"  dose {_short(decay['dose'])}  root mean square {_short(norm.get('first'))} -> "
            f"{_short(norm.get('last'))}"
        )
    return lines


def _short(value: float | list[float] | None) -> str:
    if isinstance(value, list):
        return " to ".join(map(_short, value))
    return "unknown" if value is None else f"{value:.4g}"


def _span(values: set[float]) -> float | list[float] | None:
    if not values:
        return None
    return max(values) if len(values) == 1 else [min(values), max(values)]


def _decays(trainer: Any) -> dict[str, Decay]:
    table, policy = trainer.gain_table, trainer.policy
    spared = spared_in(policy, table, trainer.model)
    return assign(table, policy, trainer.args.weight_decay, spared=spared)
