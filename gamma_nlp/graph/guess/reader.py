"""What a model of transformers reads: the arguments of its forward pass and its config's fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

IMAGE = ("vision", "image", "visual", "video", "", "backbone", "encoder", "vlm", "sam")
AUDIO = ("audio", "speech", "acoustic", "", "encoder", "semantic", "codec", "dac")
ANY = ("", "text", "vlm", "vision", "image", "audio", "video")
"""Words in the names of nested configs, the likeliest first; ``""`` is the model's own config."""


@dataclass(kw_only=True)
class Reader:
    """One model, and the inputs found for it so far.

    Attributes:
        model: The model, unwrapped.
        names: The arguments that its forward pass takes, or hands on to a tower.
        required: Those without a default, and the main input.
        handed_on: Those that a tower asks for.
        found: The inputs, by argument.
    """

    model: nn.Module
    names: set[str]
    required: set[str]
    handed_on: set[str]
    found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module) -> Reader:
        """Read the signatures of a model's forward pass and of its towers."""
        names, required = arguments(model.forward)
        handed_on: set[str] = set()
        for kind in ("image", "audio"):
            method = tower(model, kind)
            if method is not None:  # pictures in a text go through its forward pass to here
                inner, needed = arguments(method)
                names |= inner
                handed_on |= needed
        main: Any = getattr(model, "main_input_name", None)
        required |= names & ({main} if isinstance(main, str) else set(main or ()))
        return cls(model=model, names=names, required=required, handed_on=handed_on)

    @property
    def config(self) -> Any:
        """The config of the model."""
        return self.model.config

    @property
    def kinds(self) -> list[str]:
        """The model types of the config and of those inside it."""
        inner = [config.model_type for _, config in _nested(self.config)]
        return [str(self.config.model_type), *map(str, inner)]

    @property
    def pairs(self) -> bool:
        """Whether the model reads a text and something else: one in the other, or side by side."""
        if any(tower(self.model, kind) for kind in ("image", "audio")):
            return True
        return any(hasattr(module, "get_text_features") for module in self.model.modules())

    def needs(self, name: str) -> bool:
        """Whether the forward pass or a tower asks for an argument."""
        return name in self.required | self.handed_on

    def takes(self, *names: str) -> bool:
        """Whether the forward pass has one of these arguments."""
        return any(name in self.names for name in names)

    def first(self, *names: str) -> str | None:
        """Return the first of these arguments that the forward pass takes."""
        return next((name for name in names if name in self.names), None)

    def get(self, *names: str, of: Sequence[str] = ("",), default: Any = None) -> Any:
        """Return the first of these fields that a config has.

        Args:
            names: The fields, the likeliest first.
            of: Words in the names of the configs to ask, the likeliest first.
            default: The answer where no config has one of the fields.
        """
        for config in self._configs(of):
            for name in names:
                value = getattr(config, name, None)
                if value is not None:
                    return value
        return default

    def number(self, *names: str, of: Sequence[str] = ("",), default: int = 0) -> int:
        """Return a field that is a number, as :meth:`get` does."""
        value = self.get(*names, of=of, default=default)
        while isinstance(value, list | tuple):
            value = value[-1]
        return int(value)

    def _configs(self, words: Sequence[str]) -> Iterator[Any]:
        nested = list(_nested(self.config))
        for word in words:
            if word == "":
                yield self.config
            else:
                yield from (config for name, config in nested if word in name)

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        parameter = next(self.model.parameters(), None)
        return parameter.device if parameter is not None else torch.device("cpu")


def tower(model: nn.Module, kind: str) -> Callable[..., Any] | None:
    """Return the method that turns images (or audio) into vectors for a text, if there is one.

    It is that of the innermost model, whose arguments are spelled out. Models that only compare
    texts with images put none into the other.
    """
    found = None
    for module in model.modules():
        if not hasattr(module, "get_text_features"):
            found = getattr(module, f"get_{kind}_features", found)
    return found


def arguments(function: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """Return the names of all arguments, and of those without a default."""
    named = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return {p.name for p in named}, {p.name for p in named if p.default is p.empty}


def _nested(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the configs inside a config with their dotted names, the outer ones first."""
    inner = [
        (prefix + name, value)
        for name, value in vars(config).items()
        if hasattr(value, "to_dict") and hasattr(value, "model_type")
    ]
    yield from inner
    for name, value in inner:
        yield from _nested(value, f"{name}.")


def random(*shape: int) -> torch.Tensor:
    """Return random floats in [0, 1), the same at every call."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def ones(*shape: int) -> torch.Tensor:
    """Return a mask that hides nothing."""
    return torch.ones(shape, dtype=torch.long)


def pair(size: Any) -> tuple[int, int]:
    """Return height and width of a size: a number, two numbers, or a mapping."""
    if isinstance(size, dict):
        found = int(size["height"] if "height" in size else size["shortest_edge"])
        return found, int(size.get("width", found))
    if isinstance(size, int | float):
        return int(size), int(size)
    return int(size[0]), int(size[-1])
