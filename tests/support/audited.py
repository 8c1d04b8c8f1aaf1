"""A small network, its groups by name, and what an audit of its optimizer found."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gamma_nlp import categorize
from gamma_nlp.check.audit.optimizer_report import Act, OptimizerAudit
from gamma_nlp.check.audit.report import Accident
from gamma_nlp.gains.table import GainTable
from tests.support.pre_norm import Block

AdamW = torch.optim.AdamW


class Network(nn.Module):
    """An embedding, two pre-norm blocks, a final norm and an output layer."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(7, 4), nn.Sequential(Block(), Block())
        self.last, self.lm_head = nn.LayerNorm(4), nn.Linear(4, 7, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.last(self.blocks(self.embed(x))))


class OnePlus(nn.Module):
    """A block whose gain is stored as 1 + w."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(4, elementwise_affine=False)
        self.gain, self.linear = nn.Parameter(torch.zeros(4)), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.norm(x) * (1 + self.gain))


IDS = torch.randint(0, 7, (2, 5), generator=torch.Generator().manual_seed(0))


def network(**kwargs: Any) -> tuple[Network, GainTable]:
    model = Network(**kwargs)
    return model, categorize(model, IDS)


def names(found: tuple[Accident, ...]) -> list[str]:
    return [one.name for one in found]


def act(found: OptimizerAudit, what: str) -> Act:
    (one,) = (one for one in found.acts if one.what == what)
    return one
