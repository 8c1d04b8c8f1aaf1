"""What an engine is to an export: its names, how it matches patterns, what its settings can say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import nn

from gamma_nlp.export.pieces import Syntax

Numbers = Literal["any", "relative", "on_off"]
"""What an engine takes per group: a weight decay, a multiplier of the only one, or yes and no."""

Form = Callable[[str], str]
"""What becomes of a parameter's name in a run: activation checkpointing, wrappers."""


class Parameter(NamedTuple):
    """A parameter as an engine's rules see it."""

    name: str
    ndim: int


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A pattern, the multiplier of what it decides, and the names that it decides.

    ``numbered`` says that the number of a layer is in it.
    """

    pattern: str
    multiplier: float
    names: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True, kw_only=True)
class Rules:
    """An export's decision.

    Attributes:
        rules: The patterns in their order.
        default: The multiplier of all other parameters.
        others: Their names.
        weight_decay: What a multiplier of 1 stands for.
        spares_vectors: Whether the engine's own rule for vectors and biases is on (timm).
        spared: What that rule spares.
        coupled: Whether decay goes into the gradient.
    """

    rules: tuple[Rule, ...]
    default: float
    others: tuple[str, ...]
    weight_decay: float
    spares_vectors: bool = False
    spared: tuple[str, ...] = ()
    coupled: bool = False

    def number(self, multiplier: float) -> float:
        """Return a weight decay without the dust of a product: 0.03, not 0.030000000000000002."""
        return plain(self.weight_decay * multiplier)

    @property
    def base(self) -> float:
        """The weight decay of the parameters without a pattern."""
        return self.number(self.default)

    def by_value(self) -> dict[float, list[str]]:
        """Return the patterns of each multiplier, in their order."""
        found: dict[float, list[str]] = {}
        for rule in self.rules:
            found.setdefault(rule.multiplier, []).append(rule.pattern)
        return found


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model type in an engine's own code.

    Attributes:
        names: For each name in transformers those in the engine, ``{}`` for each number.
        offset: 0 where the engine stores a gain as it is, whatever transformers does; ``None``
            where both store the same.
    """

    names: Mapping[str, tuple[str, ...]]
    offset: float | None = None

    def own(self, name: str) -> tuple[str, ...]:
        """Return the engine's names for one of transformers; none where it has no such thing."""
        numbers = [part for part in name.split(".") if part.isdecimal()]
        known = self.names.get(re.sub(r"(?<![^.])\d+(?![^.])", "{}", name), ())
        return tuple(template.format(*numbers) for template in known)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine whose settings an export can be pasted into.

    Attributes:
        key: What the user types.
        title: Its name and the version whose source was read.
        syntax: How it writes patterns.
        ordered: Whether the first pattern that matches decides.
        disjoint: Whether no two patterns may match one name.
        numbers: What it takes per group.
        coupled: Whether it has an optimizer with decay in the gradient.
        layouts: Its own model code by transformers' model type; empty where it trains
            transformers' models, or any, under their names.
        forms: What its runs make of its own names, the first being the name itself.
        model_forms: The same for a model of transformers.
        model_names: Where it meets models under transformers' names, for messages.
        spares: What its own rule would spare, where that can be turned off.
        emulated: The coefficient of every parameter by its rules, written anew.
        applied: The same by its own code.
        modules: Where that code is.
        write: The lines to paste.
    """

    key: str
    title: str
    syntax: Syntax
    ordered: bool = False
    disjoint: bool = False
    numbers: Numbers = "any"
    coupled: bool = True
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    forms: Sequence[Form] = (str,)
    model_forms: Sequence[Form] = (str,)
    model_names: str = ""
    spares: Callable[[Parameter], bool] | None = None
    emulated: Callable[[Rules, Sequence[Parameter]], dict[str, float]]
    applied: Callable[[Rules, Sequence[Parameter]], dict[str, float]]
    modules: tuple[str, ...]
    write: Callable[[Rules], list[str]]


def plain(number: float) -> float:
    """Return a number as a person writes it, 12 digits at most."""
    return float(f"{number:.12g}")


def same(one: float, other: float) -> bool:
    """Whether two coefficients are equal up to the rounding of a product."""
    return math.isclose(one, other, rel_tol=1e-9)


CHECKPOINT = "_checkpoint_wrapped_module"
"""What torch's ``checkpoint_wrapper`` calls the module that it holds."""


def wrapped_block(name: str, more: int = 0) -> str:
    """Return a name as it is where activation checkpointing wraps each block.

    Args:
        name: A parameter's name; the first number in it is that of its block.
        more: How much deeper the wrapped module sits: 1 for a part of the block.
    """
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdecimal()), len(parts)) + 1 + more
    return ".".join([*parts[:at], CHECKPOINT, *parts[at:]]) if at < len(parts) else name


def wrapped_part(name: str) -> str:
    """Return a name as it is where activation checkpointing wraps the parts of each block."""
    return wrapped_block(name, more=1)


def skeleton(parameters: Sequence[Parameter]) -> nn.Module:
    """Return a module that has these parameters, without memory, under these names."""
    top = nn.Module()
    for name, ndim in parameters:
        *path, leaf = name.split(".")
        module = top
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(torch.empty((1,) * ndim, device="meta")))
    return top
