"""What a model's author marked as not to be decayed.

Authors say so in three ways, which all are read::

    A_log._no_weight_decay = True                        Mamba; also without the underscore
    log_dt._optim = {"weight_decay": 0.0}                S4; fairseq: optim_overrides
    def no_weight_decay(self): return {"pos_embed"}      timm, on the model or a part of it;
    def no_weight_decay_keywords(self): ...              Swin: parts of names

A marked weight or embedding gets the role ``other``: it decays only where a policy decays ``other``
or names it. Biases and shifts keep their roles, which say the same. A gain keeps its category: such
marks come from one rule for all gains of a model, and what this package asks is which of them are
better decayed. The reason says that it is marked.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from gamma_nlp.errors import GammaError, listed, one_line
from gamma_nlp.gains.category import Role
from gamma_nlp.gains.table import GainTable
from gamma_nlp.wrappers import plain_names

METHODS = ("no_weight_decay", "no_weight_decay_keywords")
MARKED = "marked by its author as not to be decayed"
"""How the reason of a marked parameter begins."""


def with_marks(model: nn.Module, table: GainTable) -> GainTable:
    """Return a gain table in which the marks of the model's author count.

    Raises:
        GammaError: A model's ``no_weight_decay`` fails.
    """
    marks = _marks(model)
    if not marks:
        return table
    roles, reasons = dict(table.roles), dict(table.reasons)
    _warn_of_many(model, [name for name, role in roles.items() if role is Role.WEIGHT], marks)
    for name in marks.keys() & roles.keys():
        if roles[name] in (Role.WEIGHT, Role.EMBEDDING):
            roles[name] = Role.OTHER
    for name in marks.keys() & roles.keys():
        if roles[name] is Role.OTHER:
            reasons[name] = f"{MARKED} ({marks[name]})"
    gains = tuple(
        replace(gain, reason=f"{gain.reason}; {MARKED}, which moves no gain")
        if gain.name in marks
        else gain
        for gain in table
    )
    return replace(table, gains=gains, roles=roles, reasons=reasons)


def _warn_of_many(model: nn.Module, weights: Collection[str], marks: Mapping[str, str]) -> None:
    spared = [name for name in weights if name in marks]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if 2 * sum(sizes[name] for name in spared) > sum(sizes[name] for name in weights):
        how = listed(list(dict.fromkeys(marks[name] for name in spared)), 3)
        warnings.warn(
            f"the model's author marked most of its weights as not to be decayed: {len(spared)} of "
            f"{len(weights)}, such as {listed(spared, 2)} ({how}). They get role other and do not "
            'decay; if that is not meant, name them: DecayPolicy(patterns={"*.weight": 1.0})',
            stacklevel=4,
        )


def _marks(model: nn.Module) -> dict[str, str]:
    """Return how each marked parameter is marked, by its first name."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for name, parameter in model.named_parameters():
        if how := _own_mark(parameter):
            found[name] = how
    for module in model.modules():
        own = dict(module.named_parameters(remove_duplicate=False))
        plain = plain_names(own)
        words, keywords = (_words(module, method) for method in METHODS)
        for method, named in zip(
            METHODS,
            (
                [name for name, short in plain.items() if short in words],
                [name for name, short in plain.items() if any(word in short for word in keywords)],
            ),
            strict=True,
        ):
            how = f"{method} of {type(module).__name__}, {len(named)} of {len(own)} parameters"
            for name in named:
                if id(own[name]) in first:
                    found.setdefault(first[id(own[name])], how)
    return found


def _own_mark(parameter: nn.Parameter) -> str | None:
    for attribute in ("_no_weight_decay", "no_weight_decay"):
        if getattr(parameter, attribute, False) is True:
            return attribute
    settings: Any = getattr(parameter, "_optim", None)
    if isinstance(settings, Mapping) and settings.get("weight_decay") == 0:
        return "_optim"
    settings = getattr(parameter, "optim_overrides", None)
    if isinstance(settings, Mapping):
        settings = settings.get("optimizer", {})
        if isinstance(settings, Mapping) and settings.get("weight_decay_scale") == 0:
            return "optim_overrides"
    return None


def _words(module: nn.Module, method: str) -> set[str]:
    """Return the names, or parts of names, that a module's own method gives; none without it."""
    # Not getattr alone: a holder passes on what it lacks.
    held: Any = vars(module).get(method, getattr(type(module), method, None))
    if held is None:
        return set()
    try:
        held = getattr(module, method)
        words = held() if callable(held) else held
    except Exception as error:
        kind = type(module).__name__
        raise GammaError(f"{kind}.{method}() fails: {one_line(error)}") from error
    if isinstance(words, str):
        words = [words]
    return {word for word in words or () if isinstance(word, str) and word}
