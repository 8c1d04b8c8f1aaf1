"""A sound model of one block, for tests that break it, and the error that it then gets."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from gamma_nlp import GammaError, categorize
from tests.support.structures import linear, norm, signal


class Block(nn.Module):
    """A pre-norm block; subclasses break it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = norm(), linear()

    def branch(self, x: Tensor) -> Tensor:
        return self.up(self.norm(x))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Model(nn.Module):
    def __init__(self, block: type[Block] = Block) -> None:
        super().__init__()
        self.embed, self.blocks, self.out = linear(), nn.ModuleList([block()]), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks[0](self.embed(x)))


def refused(model: nn.Module, inputs: Any = None) -> str:
    with pytest.raises(GammaError) as error:
        categorize(model, signal() if inputs is None else inputs)
    return str(error.value)
