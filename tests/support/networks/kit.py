"""What the bodies of branches are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from .parts import Part


class Kit(Protocol):
    """What a body may ask for; everything is drawn at random."""

    memory_dim: int

    def flag(self, chance: float = 0.5) -> bool: ...
    def pick(self, options: Any) -> Any: ...
    def act(self) -> nn.Module: ...
    def vector(self, dim: int, low: float = 0.5, high: float = 1.5) -> nn.Parameter: ...
    def weight(self, dim: int, out: int) -> nn.Module: ...
    def inner_norm(
        self, dim: int, kind: str, last: bool = True, query: bool = False
    ) -> nn.Module: ...
    def part(self, run: Callable[..., Any], *members: Any, **options: Any) -> Part: ...
    def kind(self, name: str) -> None: ...
