"""The names that an engine has for a model's parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from gamma_nlp.errors import GammaError, listed
from gamma_nlp.export.engine import Engine, Layout
from gamma_nlp.rows import with_ranges, without_numbers


def layout_of(engine: Engine, model: nn.Module, names: Iterable[str]) -> Layout | None:
    """Return the layout of a model in the engine's own code; ``None`` where it has no such code.

    Raises:
        GammaError: The engine has its own code, and none for this model, or not for all of it.
    """
    if not engine.layouts:
        return None
    kind = str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
    otherwise = (
        f"names='model' keeps the names of {type(model).__name__}, for {engine.model_names}; "
        "to='json' lists every parameter"
    )
    layout = engine.layouts.get(kind)
    if layout is None:
        raise GammaError(
            f"{engine.title} has no model code of its own for {kind!r} that is known here (known: "
            f"{', '.join(engine.layouts)}); {otherwise}"
        )
    names = list(names)
    foreign = [name for name in names if not layout.own(name)]
    if foreign and any(layout.own(f"model.{name}") for name in foreign):
        raise GammaError(
            f"{type(model).__name__} is a {kind} without its language-model head, and "
            f"{engine.title} trains the whole; put the class that ends in ForCausalLM into the "
            f'"architectures" of the config; {otherwise}'
        )
    if foreign:
        raise GammaError(
            f"{engine.title}'s {kind} has nothing like {listed(folded(foreign))} of "
            f"{type(model).__name__}; {otherwise}"
        )
    return layout


def own_names(layout: Layout | None, wanted: Mapping[str, float], engine: Engine) -> dict[str, str]:
    """Return the model's name for each of the engine's; parts that it joins must want the same.

    Raises:
        GammaError: They do not.
    """
    if layout is None:
        return {name: name for name in wanted}
    found: dict[str, str] = {}
    for name, value in wanted.items():
        for own in layout.own(name):
            other = found.setdefault(own, name)
            if wanted[other] != value:
                raise GammaError(
                    f"{engine.title} keeps {other!r} and {name!r} in one parameter, {own!r}, and "
                    f"the policy decays them by different multiples of weight_decay ("
                    f"{wanted[other]:g} and {value:g}); give both the same in the policy's patterns"
                )
    return found


def folded(names: Iterable[str]) -> list[str]:
    """Return names with layers as ranges: ``layers.{0-3}.norm.weight``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(without_numbers(name), []).append(name)
    return [with_ranges(group) for group in alike.values()]
