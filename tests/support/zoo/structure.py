"""What a structure of the zoo is: a tiny model, its inputs, and the truth about every gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

FIELDS = ("inner", "last", "shortcut", "head", "unused", "other", "unsure")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A model and the truth about it, written by hand from the rule's definitions.

    Each field but the first two holds patterns of parameter names (without ``.weight``), separated
    by blanks. Every gain of the model is in exactly one of them.

    Attributes:
        model: The model.
        inputs: The inputs of its forward pass.
        inner: Gains that feed a branch through a weight.
        last: Gains that end a branch.
        shortcut: Gains that scale what a skip carries.
        head: Gains that no addition follows.
        unused: Gains that the forward pass never reaches.
        other: Parameters that look like gains and are none: their role is ``other``.
        unsure: Parameters on which the definitions are silent.
        silent: Gains whose change moves nothing, so that the probe is inconclusive.
    """

    model: nn.Module
    inputs: Any
    inner: str = ""
    last: str = ""
    shortcut: str = ""
    head: str = ""
    unused: str = ""
    other: str = ""
    unsure: str = ""
    silent: str = ""

    def truth(self) -> dict[str, str]:
        """Return the field of every parameter that some pattern matches.

        A pattern that matches nothing is an error, and so is a parameter that two fields claim.
        """
        found: dict[str, str] = {}
        for field in FIELDS:
            for name in self.matches(field):
                assert name not in found, f"{name}: {found[name]} or {field}?"
                found[name] = field
        return found

    def matches(self, field: str) -> list[str]:
        """Return the parameters that the patterns of a field match."""
        names = [n.removesuffix(".weight") for n, _ in self.model.named_parameters()]
        names = [n for n in names if n.rpartition(".")[2] != "bias"]
        found = []
        for pattern in getattr(self, field).split():
            matched = [name for name in names if fnmatchcase(name, pattern)]
            assert matched, f"{pattern!r} matches no parameter"
            found += matched
        return found


ZOO: dict[str, Callable[[], Structure]] = {}
"""Every structure by name: the function that builds it."""


def structure(build: Callable[[], Structure]) -> Callable[[], Structure]:
    """Put a structure into the zoo, under its function's name."""
    assert build.__name__ not in ZOO, build.__name__
    ZOO[build.__name__] = build
    return build


def built(name: str) -> Structure:
    """Build a structure, the same at every call."""
    torch.manual_seed(0)
    return ZOO[name]()


assert {field.name for field in fields(Structure)} >= set(FIELDS)
